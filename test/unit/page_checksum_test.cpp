#include "sample_page.hpp"

#include "seal/page_cipher.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace seal {
namespace {

using test::Page;

Page xorshift_page(std::uint64_t s)
{
	Page page;
	for (std::size_t i = 0; i < kPageSize; i += 8) {
		s ^= s >> 12;
		s ^= s << 25;
		s ^= s >> 27;
		const std::uint64_t v = s * 2685821657736338717u;
		std::memcpy(&page[i], &v, 8);
	}
	return page;
}

TEST(PageChecksum, SameNumbersAsPostgreSQL)
{
	std::ifstream in(std::string(SEAL_VECTOR_DIR) + "/page_checksums.txt");
	ASSERT_TRUE(in);
	int run = 0;
	for (std::string line; std::getline(in, line);) {
		if (line.empty() || line.front() == '#')
			continue;
		std::istringstream fields(line);
		std::string seed;
		std::uint32_t block = 0, expected = 0;
		ASSERT_TRUE(fields >> seed >> block >> expected) << line;
		Page page{};
		if (seed == "one")
			page[14] = 1;
		else
			page = xorshift_page(std::stoull(seed));
		EXPECT_EQ(page_checksum(page.data(), block), expected) << line;
		run++;
	}
	EXPECT_EQ(run, 14);
}

TEST(PageChecksum, StoredChecksumDoesNotCount)
{
	Page page = xorshift_page(99);
	const std::uint16_t before = page_checksum(page.data(), 5);
	test::put_u16(page.data(), kPageChecksumOffset, 0xABCD);
	EXPECT_EQ(page_checksum(page.data(), 5), before);
	page[kPageSize - 1] ^= 1;
	EXPECT_NE(page_checksum(page.data(), 5), before);
	EXPECT_NE(page_checksum(page.data(), 6), page_checksum(page.data(), 5));
}

TEST(PageChecksum, ReadsUnalignedPages)
{
	const Page page = xorshift_page(7);
	std::array<std::uint8_t, kPageSize + 1> shifted;
	std::copy(page.begin(), page.end(), shifted.begin() + 1);
	EXPECT_EQ(page_checksum(shifted.data() + 1, 3), page_checksum(page.data(), 3));
}

TEST(PageIsZero, SeesAnySingleBit)
{
	Page page{};
	EXPECT_TRUE(page_is_zero(page.data()));
	for (std::size_t at = 0; at < kPageSize; at++) {
		page[at] = 1;
		ASSERT_FALSE(page_is_zero(page.data())) << at;
		page[at] = 0;
	}
}

} // namespace
} // namespace seal
