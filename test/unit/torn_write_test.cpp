// A power cut leaves any mixture of the old and the new sectors of a page. Claim: the mixture of two sealed pages opens
// to exactly the same mixture of the two plain pages, so encryption makes a torn page neither better nor worse.
#include "sample_page.hpp"

#include "seal/page_cipher.hpp"

#include <gtest/gtest.h>

namespace seal {
namespace {

using test::Page;
using test::sample_page;
using test::sample_seed;

Page mixture(const Page& old_page, const Page& new_page, std::size_t sector_size, std::uint64_t new_sectors)
{
	Page out;
	for (std::size_t s = 0; s < kPageSize / sector_size; s++) {
		const Page& from = (new_sectors >> s & 1) != 0 ? new_page : old_page;
		std::copy_n(&from[s * sector_size], sector_size, &out[s * sector_size]);
	}
	return out;
}

class TornWrite : public testing::TestWithParam<CipherId> {
protected:
	static constexpr std::uint32_t kBlock = 4711;

	void SetUp() override { ASSERT_TRUE(cipher_.init(GetParam(), sample_seed(17).data())); }

	void expect_same_mixture(const Page& old_plain, const Page& new_plain, std::size_t sector_size,
	                         std::uint64_t new_sectors)
	{
		Page old_sealed, new_sealed;
		ASSERT_TRUE(cipher_.seal(old_plain.data(), old_sealed.data(), kBlock, ForkClass::main, 5));
		ASSERT_TRUE(cipher_.seal(new_plain.data(), new_sealed.data(), kBlock, ForkClass::main, 5));
		Page torn = mixture(old_sealed, new_sealed, sector_size, new_sectors);
		ASSERT_TRUE(cipher_.open(torn.data(), kBlock, ForkClass::main));
		ASSERT_EQ(torn, mixture(old_plain, new_plain, sector_size, new_sectors)) << sector_size << " " << new_sectors;
	}

	PageCipher cipher_;
};

TEST_P(TornWrite, EverySingleBoundaryAndSectorOfUnrelatedVersions)
{
	const Page a = sample_page(1, 1), b = sample_page(2, 4);
	for (unsigned boundary = 0; boundary <= 16; boundary++) {
		expect_same_mixture(a, b, 512, (1u << boundary) - 1); // the first sectors arrived
		expect_same_mixture(b, a, 512, (1u << boundary) - 1); // the last sectors arrived
	}
	for (unsigned sector = 0; sector < 16; sector++)
		expect_same_mixture(a, b, 512, 1u << sector);
}

TEST_P(TornWrite, EverySubsetOfSectors)
{
	const Page a = sample_page(3), b = sample_page(4);
	Page a_sealed, b_sealed;
	ASSERT_TRUE(cipher_.seal(a.data(), a_sealed.data(), kBlock, ForkClass::main, 5));
	ASSERT_TRUE(cipher_.seal(b.data(), b_sealed.data(), kBlock, ForkClass::main, 5));
	for (std::uint64_t subset = 0; subset < 1u << 16; subset++) {
		Page torn = mixture(a_sealed, b_sealed, 512, subset);
		ASSERT_TRUE(cipher_.open(torn.data(), kBlock, ForkClass::main));
		ASSERT_EQ(torn, mixture(a, b, 512, subset)) << subset;
	}
}

TEST_P(TornWrite, FirstWriteOverZeroes) // a new page is zeroes on disk, sealed or not
{
	const Page zeroes = {}, b = sample_page(8);
	Page sealed;
	ASSERT_TRUE(cipher_.seal(b.data(), sealed.data(), kBlock, ForkClass::main, 5));
	for (std::uint64_t subset = 1; subset < 1u << 16; subset += 2) { // sector 0 arrived; without it the page carries no mark
		Page torn = mixture(zeroes, sealed, 512, subset);
		ASSERT_EQ(unwritten_sectors(torn.data()), static_cast<std::uint16_t>(~subset)) << subset;
		ASSERT_TRUE(cipher_.open(torn.data(), kBlock, ForkClass::main));
		ASSERT_EQ(torn, mixture(zeroes, b, 512, subset)) << subset;
	}
}

TEST_P(TornWrite, HalvesOfFourKilobytes)
{
	const Page a = sample_page(5), b = sample_page(6);
	for (std::uint64_t subset = 0; subset < 4; subset++)
		expect_same_mixture(a, b, 4096, subset);
}

TEST_P(TornWrite, HintBitInAnyByteOfTheBody) // versions that differ in one bit anywhere, torn at any boundary
{
	const Page a = sample_page(7);
	for (std::size_t at = kPageHeaderSize; at < kPageSize; at += 37) {
		Page b = a;
		b[at] ^= 0x10;
		for (const unsigned boundary : {1u, 2u, 8u, 15u})
			expect_same_mixture(a, b, 512, (1u << boundary) - 1);
	}
}

INSTANTIATE_TEST_SUITE_P(Ciphers, TornWrite, testing::Values(CipherId::aes_256_xts, CipherId::aes_128_xts),
                         [](const auto& info) { return info.param == CipherId::aes_256_xts ? "Aes256" : "Aes128"; });

} // namespace
} // namespace seal
