// The file layer of sealed WAL against a plain model: what is written in any pieces is read back in any pieces, and nothing of it lies in clear.
#include "seal/wal_key.hpp"
#include "seal/wal_segment_io.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <vector>

namespace seal {
namespace {

constexpr std::uint32_t kSegment = 1u << 20;
constexpr std::uint64_t kStart = 5ull * kSegment;
constexpr std::uint32_t kTimeline = 3;

class MemoryFile final : public WalRawIo {
public:
	std::vector<std::uint8_t> bytes;
	std::size_t longest_write = ~std::size_t{0}; // writes come back short
	int fail_after = -1;                         // writes until ENOSPC
	ssize_t read(int, void* buffer, std::size_t size, off_t offset, std::uint64_t) noexcept override
	{
		const std::size_t at = static_cast<std::size_t>(offset);
		const std::size_t n = at >= bytes.size() ? 0 : std::min(size, bytes.size() - at);
		std::memcpy(buffer, bytes.data() + at, n);
		return static_cast<ssize_t>(n);
	}
	ssize_t write(int, const void* buffer, std::size_t size, off_t offset, std::uint64_t) noexcept override
	{
		if (fail_after == 0) {
			errno = ENOSPC;
			return -1;
		}
		fail_after -= fail_after > 0;
		const std::size_t n = std::min(size, longest_write), at = static_cast<std::size_t>(offset);
		if (bytes.size() < at + n)
			bytes.resize(at + n);
		std::memcpy(bytes.data() + at, buffer, n);
		return static_cast<ssize_t>(n);
	}
};

class TestKeys final : public WalKeys {
public:
	std::uint32_t now = 0;
	std::map<std::uint32_t, std::unique_ptr<WalCipher>> ciphers;
	void add(std::uint32_t generation, CipherId cipher = CipherId::aes_256_xts)
	{
		const std::vector<std::uint8_t> seed(kDekSeedSize, static_cast<std::uint8_t>(generation));
		std::uint8_t key[kWalKeySize];
		ASSERT_TRUE(wal_key_expand(cipher, seed.data(), key));
		auto made = std::make_unique<WalCipher>();
		ASSERT_TRUE(made->make(cipher) && made->set_key(key));
		ciphers[generation] = std::move(made);
	}
	WalCipher* by_mark(std::uint16_t mark, std::uint32_t* generation) noexcept override
	{
		for (const auto& [number, cipher] : ciphers)
			if (number % kWalGenerations == mark) {
				*generation = number;
				return cipher.get();
			}
		return nullptr;
	}
	std::uint32_t newest() noexcept override { return now; }
};

void put_header(std::uint8_t* page, std::uint64_t address, bool first)
{
	const std::uint16_t magic = 0xD110, info = first ? kWalLongInfo : 1;
	std::memset(page, 0, first ? kWalLongHeader : kWalShortHeader);
	std::memcpy(page, &magic, 2);
	std::memcpy(page + kWalInfoOffset, &info, 2);
	std::memcpy(page + kWalTimelineOffset, &kTimeline, 4);
	std::memcpy(page + kWalAddressOffset, &address, 8);
	if (first)
		std::memcpy(page + kWalSegmentSizeOffset, &kSegment, 4);
}

std::vector<std::uint8_t> plain_segment(std::mt19937& random, std::uint64_t start = kStart)
{
	std::vector<std::uint8_t> segment(kSegment);
	for (std::uint8_t& byte : segment)
		byte = static_cast<std::uint8_t>(1 + random() % 255);
	for (std::size_t at = 0; at < kSegment; at += kWalPageSize)
		put_header(segment.data() + at, start + at, at == 0);
	return segment;
}

struct Bench { // a segment on "disk", and the layer over it
	MemoryFile disk;
	TestKeys keys;
	std::unique_ptr<WalSegmentIo> io = std::make_unique<WalSegmentIo>(keys, disk);
	WalFile file{.fd = 1, .start = kStart, .segment_size = kSegment};
	std::mt19937 random{20260101};
	std::vector<std::uint8_t> plain = plain_segment(random);

	Bench()
	{
		keys.add(1);
		keys.add(2, CipherId::aes_128_xts);
		keys.add(1500);
		keys.now = 1;
		disk.bytes.resize(kSegment);
	}
	void reopen() // another process
	{
		io = std::make_unique<WalSegmentIo>(keys, disk);
		file = {.fd = 1, .start = kStart, .segment_size = kSegment};
	}
	void write(std::size_t from, std::size_t to)
	{
		ASSERT_EQ(io->pwrite(file, plain.data() + from, to - from, static_cast<off_t>(from)), static_cast<ssize_t>(to - from));
	}
	void stream(std::size_t to, std::size_t largest)
	{
		for (std::size_t at = 0; at < to;) {
			const std::size_t next = std::min(to, at + 1 + random() % largest);
			write(at, next);
			at = next;
		}
	}
	bool reads_back(std::size_t from, std::size_t to)
	{
		std::vector<std::uint8_t> got(to - from);
		return io->pread(file, got.data(), got.size(), static_cast<off_t>(from)) == static_cast<ssize_t>(got.size()) &&
		       std::equal(got.begin(), got.end(), plain.begin() + static_cast<std::ptrdiff_t>(from));
	}
	int pages_with_mark(std::uint32_t generation)
	{
		int count = 0;
		for (std::size_t at = 0; at < kSegment; at += kWalPageSize) {
			const std::uint16_t info = wal_info(disk.bytes.data() + at);
			count += wal_sealed(info) && wal_mark(info) == generation % kWalGenerations;
		}
		return count;
	}
	int clear_runs() // 16-byte runs of the plain text that lie on disk outside headers
	{
		int count = 0;
		for (std::size_t at = 48; at + 16 <= kSegment; at += 16)
			count += at % kWalPageSize >= 48 && std::equal(plain.begin() + static_cast<std::ptrdiff_t>(at),
			                                               plain.begin() + static_cast<std::ptrdiff_t>(at + 16),
			                                               disk.bytes.begin() + static_cast<std::ptrdiff_t>(at));
		return count;
	}
};

constexpr int kPages = kSegment / kWalPageSize;

TEST(WalSegmentIo, WholePagesAreSealedAndReadBackInAnyPieces)
{
	Bench b;
	b.write(0, kSegment);
	EXPECT_EQ(b.pages_with_mark(1), kPages);
	EXPECT_EQ(b.clear_runs(), 0);
	b.reopen();
	EXPECT_TRUE(b.reads_back(0, kSegment));
	for (int i = 0; i < 500; i++) {
		const std::size_t from = b.random() % kSegment, to = from + b.random() % (kSegment - from + 1);
		ASSERT_TRUE(b.reads_back(from, to)) << from << " to " << to;
	}
}

TEST(WalSegmentIo, ArbitraryByteRangesAreSealedAsTheyArrive)
{
	for (const std::size_t largest : {1u, 7u, 23u, 41u, 500u, 9000u, 300000u}) {
		Bench b;
		const std::size_t to = largest < 10 ? 5 * kWalPageSize : kSegment;
		b.stream(to, largest);
		EXPECT_TRUE(b.reads_back(0, to)) << largest;
		b.reopen();
		EXPECT_TRUE(b.reads_back(0, to)) << largest;
		EXPECT_EQ(b.pages_with_mark(1), static_cast<int>(to / kWalPageSize)) << largest;
		EXPECT_EQ(b.clear_runs(), 0) << largest;
	}
}

TEST(WalSegmentIo, EveryPrefixOfAStreamCanBeReadByAnotherProcess)
{
	Bench b;
	std::size_t at = 0;
	while (at < 6 * kWalPageSize) {
		const std::size_t next = at + 1 + b.random() % 700;
		b.write(at, next);
		at = next;
		WalSegmentIo other(b.keys, b.disk);
		WalFile file{.fd = 2, .start = kStart, .segment_size = kSegment};
		std::vector<std::uint8_t> got(at);
		ASSERT_EQ(other.pread(file, got.data(), at, 0), static_cast<ssize_t>(at));
		ASSERT_TRUE(std::equal(got.begin(), got.end(), b.plain.begin())) << at;
	}
}

TEST(WalSegmentIo, AnotherProcessGoesOnInTheMiddleOfAPage)
{
	Bench b;
	b.write(0, 20000);
	b.reopen();
	b.keys.now = 2; // the segment keeps its generation
	b.write(20000, 50000);
	EXPECT_TRUE(b.reads_back(0, 50000));
	EXPECT_EQ(b.pages_with_mark(1), 7);
	EXPECT_EQ(b.pages_with_mark(2), 0);
}

TEST(WalSegmentIo, APageThatFillsIsRewrittenUnderItsGeneration)
{
	Bench b;
	std::vector<std::uint8_t> page(b.plain.begin(), b.plain.begin() + kWalPageSize);
	for (std::size_t filled = 100; filled < kWalPageSize; filled += 300) {
		std::fill(page.begin() + static_cast<std::ptrdiff_t>(filled), page.end(), std::uint8_t{0});
		ASSERT_EQ(b.io->pwrite(b.file, page.data(), kWalPageSize, 0), static_cast<ssize_t>(kWalPageSize));
		b.reopen();
		b.keys.now = filled > 4000 ? 2 : 1;
		ASSERT_TRUE(b.reads_back(0, filled));
		std::copy(b.plain.begin(), b.plain.begin() + kWalPageSize, page.begin());
	}
	EXPECT_EQ(b.pages_with_mark(1), 1);
}

TEST(WalSegmentIo, AFirstPageThatHoldsNothingTellsTheForm)
{
	for (const bool sealed : {true, false}) {
		Bench b;
		b.keys.now = sealed ? 1 : kWalPlain;
		std::fill(b.plain.begin() + kWalLongHeader, b.plain.begin() + kWalPageSize, std::uint8_t{0});
		b.write(0, kWalPageSize);
		std::vector<std::uint8_t> half(b.plain.begin() + kWalPageSize, b.plain.begin() + 2 * kWalPageSize);
		std::fill(half.begin() + 3000, half.end(), std::uint8_t{0});
		ASSERT_EQ(b.io->pwrite(b.file, half.data(), half.size(), kWalPageSize), static_cast<ssize_t>(half.size()));
		b.reopen();
		b.keys.now = 2;
		b.write(kWalPageSize, 4 * kWalPageSize);
		EXPECT_EQ(b.pages_with_mark(1), sealed ? 4 : 0);
		EXPECT_EQ(b.pages_with_mark(2), 0);
		EXPECT_TRUE(b.reads_back(0, 4 * kWalPageSize));
	}
}

TEST(WalSegmentIo, ASegmentBegunInClearStaysInClear)
{
	Bench b;
	b.keys.now = kWalPlain;
	b.write(0, 3 * kWalPageSize);
	b.keys.now = 1;
	b.reopen();
	b.write(3 * kWalPageSize, 10 * kWalPageSize);
	b.stream(12 * kWalPageSize, 900);
	EXPECT_EQ(b.pages_with_mark(1), 0);
	EXPECT_TRUE(b.reads_back(0, 12 * kWalPageSize));
}

// A crash of the operating system may keep a page and lose the first one, which would have told the generation.
TEST(WalSegmentIo, APartOfASealedPageIsNeverWrittenInAnotherForm)
{
	for (const std::uint32_t now : {0u, 2u}) {
		Bench bench;
		const std::size_t page = 3 * kWalPageSize, old = 1000, more = 500;
		ASSERT_EQ(bench.io->pwrite(bench.file, bench.plain.data(), page + old, 0), static_cast<ssize_t>(page + old));
		std::fill_n(bench.disk.bytes.begin(), kWalPageSize, std::uint8_t{0});
		bench.keys.now = now;
		bench.reopen();
		ASSERT_EQ(bench.io->pwrite(bench.file, bench.plain.data() + page + old, more, static_cast<off_t>(page + old)), static_cast<ssize_t>(more));
		EXPECT_EQ(wal_mark(wal_info(bench.disk.bytes.data() + page)), 1u);
		bench.reopen();
		std::vector<std::uint8_t> back(old + more);
		ASSERT_EQ(bench.io->pread(bench.file, back.data(), back.size(), static_cast<off_t>(page)), static_cast<ssize_t>(back.size()));
		EXPECT_TRUE(std::equal(back.begin(), back.end(), bench.plain.begin() + page));
		// The header alone, written again.
		ASSERT_EQ(bench.io->pwrite(bench.file, bench.plain.data() + page, 10, static_cast<off_t>(page)), 10);
		ASSERT_EQ(bench.io->pread(bench.file, back.data(), back.size(), static_cast<off_t>(page)), static_cast<ssize_t>(back.size()));
		EXPECT_TRUE(std::equal(back.begin(), back.end(), bench.plain.begin() + page));
	}
}

TEST(WalSegmentIo, ASealedSegmentStaysSealedAfterSealingIsOff)
{
	Bench b;
	b.write(0, 3 * kWalPageSize);
	b.keys.now = kWalPlain;
	b.reopen();
	b.write(3 * kWalPageSize, 10 * kWalPageSize);
	EXPECT_EQ(b.pages_with_mark(1), 10);
}

TEST(WalSegmentIo, ARecycledSegmentIsBegunAnew)
{
	Bench b;
	b.write(0, kSegment);
	std::vector<std::uint8_t> old = b.plain;
	b.plain = plain_segment(b.random, kStart + 7ull * kSegment);
	b.reopen();
	b.file.start = kStart + 7ull * kSegment;
	b.keys.now = 1500;
	std::vector<std::uint8_t> raw(kWalPageSize);
	ASSERT_EQ(b.io->pread(b.file, raw.data(), raw.size(), 0), static_cast<ssize_t>(raw.size()));
	EXPECT_TRUE(std::equal(raw.begin() + 4, raw.end(), b.disk.bytes.begin() + 4)) << "another segment's page is given back as it lies";
	EXPECT_FALSE(wal_sealed(wal_info(raw.data()))) << "so that its address tells, not its mark";
	b.write(0, 5000);
	b.write(5000, 30000);
	EXPECT_EQ(b.pages_with_mark(1500), 4);
	EXPECT_TRUE(b.reads_back(0, 30000));
}

TEST(WalSegmentIo, WalInClearDoesNotStayBehindASealedSegment)
{
	Bench b;
	b.keys.now = kWalPlain;
	b.write(0, kSegment);
	const std::vector<std::uint8_t> old = b.plain;
	b.plain = plain_segment(b.random, kStart + kSegment);
	b.reopen();
	b.file.start = kStart + kSegment;
	b.keys.now = 1;
	b.write(0, 100);
	b.write(100, 20000);
	EXPECT_TRUE(b.reads_back(0, 20000));
	EXPECT_TRUE(std::all_of(b.disk.bytes.begin() + 3 * kWalPageSize, b.disk.bytes.end(), [](std::uint8_t byte) { return byte == 0; }));
	b.keys.now = kWalPlain; // the other way round there is nothing to hide
	b.reopen();
	b.file.start = kStart + 2 * kSegment;
	b.plain = plain_segment(b.random, kStart + 2 * kSegment);
	b.write(0, 9000);
	EXPECT_TRUE(b.reads_back(0, 9000));
}

TEST(WalSegmentIo, AnUnknownGenerationIsAFailureNotAnEnd)
{
	Bench b;
	b.write(0, 2 * kWalPageSize);
	b.reopen();
	b.keys.ciphers.erase(1);
	std::vector<std::uint8_t> page(kWalPageSize);
	EXPECT_EQ(b.io->pread(b.file, page.data(), page.size(), kWalPageSize), -1);
	EXPECT_EQ(b.io->problem(), WalProblem::unknown_key);
	EXPECT_EQ(b.io->problem_mark(), 1);
	EXPECT_EQ(b.io->problem_address(), kStart + kWalPageSize);
	EXPECT_EQ(b.io->pwrite(b.file, b.plain.data() + 100, 100, 100), -1);
	EXPECT_EQ(b.io->problem(), WalProblem::unknown_key);
}

TEST(WalSegmentIo, PagesWithoutContentsStayZeroAndInClear)
{
	Bench b;
	for (std::size_t at = kWalPageSize; at < kSegment; at += kWalPageSize)
		std::fill(b.plain.begin() + static_cast<std::ptrdiff_t>(at + kWalShortHeader),
		          b.plain.begin() + static_cast<std::ptrdiff_t>(at + kWalPageSize), std::uint8_t{0});
	b.write(0, kSegment);
	EXPECT_EQ(b.pages_with_mark(1), 1);
	EXPECT_TRUE(std::equal(b.plain.begin() + kWalPageSize, b.plain.end(), b.disk.bytes.begin() + kWalPageSize));
	EXPECT_TRUE(b.reads_back(0, kSegment));
}

TEST(WalSegmentIo, WhatIsNoPageOfThisPlaceIsNeverWrittenInClear)
{
	Bench b;
	const std::vector<std::uint8_t> secret(kWalPageSize, 'x');
	EXPECT_EQ(b.io->pwrite(b.file, secret.data(), secret.size(), 0), -1);
	EXPECT_EQ(b.io->problem(), WalProblem::not_wal);
	EXPECT_EQ(b.io->pwrite(b.file, secret.data(), 500, 4000), -1);
	EXPECT_EQ(b.io->problem(), WalProblem::not_wal);
	EXPECT_TRUE(std::all_of(b.disk.bytes.begin(), b.disk.bytes.end(), [](std::uint8_t byte) { return byte == 0; }));
	const std::uint8_t zero = 0; // how a segment is made when wal_init_zero is off
	EXPECT_EQ(b.io->pwrite(b.file, &zero, 1, kSegment - 1), 1);
}

// What a cascading standby may receive behind the end of a segment that was cut short.
TEST(WalSegmentIo, PagesOfAFormerSegmentBecomeZeroes)
{
	Bench b;
	const std::size_t begin = 3 * kWalPageSize, end = 20 * kWalPageSize;
	for (std::size_t at = begin; at < end; at += kWalPageSize) {
		std::uint64_t address = wal_address(b.plain.data() + at) - 5 * kSegment;
		std::memcpy(b.plain.data() + at + kWalAddressOffset, &address, sizeof address);
		if (at % (2 * kWalPageSize) == 0) // sealed where it comes from, or in clear
			wal_set_info(b.plain.data() + at, wal_seal_info(0, 7));
	}
	b.write(0, end);
	EXPECT_EQ(b.pages_with_mark(1), 3);
	EXPECT_TRUE(std::all_of(b.disk.bytes.begin() + begin, b.disk.bytes.begin() + end, [](std::uint8_t byte) { return byte == 0; }));
	EXPECT_TRUE(b.reads_back(0, begin));
}

TEST(WalSegmentIo, ShortWritesAndAFullDiskLoseNothing)
{
	Bench b;
	b.disk.longest_write = 5000;
	b.write(0, 20 * kWalPageSize);
	EXPECT_TRUE(b.reads_back(0, 20 * kWalPageSize));
	b.disk.fail_after = 2;
	EXPECT_EQ(b.io->pwrite(b.file, b.plain.data() + 20 * kWalPageSize, 30 * kWalPageSize, 20 * kWalPageSize), -1);
	EXPECT_EQ(errno, ENOSPC);
	b.disk.fail_after = -1;
	b.write(20 * kWalPageSize, 50 * kWalPageSize);
	EXPECT_TRUE(b.reads_back(0, 50 * kWalPageSize));
}

TEST(WalSegmentIo, ACopyOfASegmentUpToAnyByteIsSealedAnew) // a timeline switch: xlogtemp.N
{
	Bench b;
	b.keys.now = 2;
	b.file = {.fd = 1, .start = kWalStartUnknown, .segment_size = kSegment};
	const std::size_t upto = 5 * kWalPageSize + 1234;
	std::fill(b.plain.begin() + static_cast<std::ptrdiff_t>(upto), b.plain.end(), std::uint8_t{0});
	for (std::size_t at = 0; at < kSegment; at += kWalPageSize) { // the server repeats the last page to the end of the file
		const std::size_t from = std::min(at, 5 * kWalPageSize);
		ASSERT_EQ(b.io->pwrite(b.file, b.plain.data() + from, kWalPageSize, static_cast<off_t>(at)), static_cast<ssize_t>(kWalPageSize));
	}
	EXPECT_EQ(b.pages_with_mark(2), 6);
	b.keys.now = 1;
	b.reopen(); // under its name now
	EXPECT_TRUE(b.reads_back(0, kSegment));
	std::fill(b.plain.begin() + static_cast<std::ptrdiff_t>(upto), b.plain.begin() + 6 * kWalPageSize, std::uint8_t{7});
	b.write(5 * kWalPageSize, 6 * kWalPageSize);
	EXPECT_EQ(b.pages_with_mark(2), 6);
	EXPECT_TRUE(b.reads_back(0, kSegment));
}

TEST(WalSegmentIo, ATornRewriteLosesNothingThatWasThere)
{
	Bench b;
	const std::size_t filled = 3000;
	std::vector<std::uint8_t> page(b.plain.begin(), b.plain.begin() + kWalPageSize);
	std::fill(page.begin() + filled, page.end(), std::uint8_t{0});
	ASSERT_EQ(b.io->pwrite(b.file, page.data(), kWalPageSize, 0), static_cast<ssize_t>(kWalPageSize));
	const std::vector<std::uint8_t> before(b.disk.bytes.begin(), b.disk.bytes.begin() + kWalPageSize);
	b.write(0, kWalPageSize);
	const std::vector<std::uint8_t> after(b.disk.bytes.begin(), b.disk.bytes.begin() + kWalPageSize);
	for (unsigned mixture = 0; mixture < 65536; mixture += 1 + b.random() % 16) {
		for (unsigned sector = 0; sector < 16; sector++)
			std::copy_n((mixture >> sector & 1 ? after : before).begin() + sector * 512, 512,
			            b.disk.bytes.begin() + sector * 512);
		b.reopen();
		ASSERT_TRUE(b.reads_back(0, filled)) << mixture;
	}
}

TEST(WalKey, IsWrappedForItsPlaceOnly)
{
	const std::string uuid = "00112233445566778899aabbccddeeff";
	const std::uint8_t keyring_key[kKeyringKeySize] = {1, 2, 3};
	std::uint8_t made[kWalKeySize], opened[kWalKeySize];
	WalKeyDef def;
	def.generation = 7;
	def.cipher = CipherId::aes_256_xts;
	ASSERT_TRUE(wal_key_make(def, uuid, keyring_key, made));
	ASSERT_TRUE(wal_key_open(def, uuid, keyring_key, opened));
	EXPECT_EQ(std::memcmp(made, opened, sizeof made), 0);
	WalKeyDef other = def;
	other.generation = 8;
	EXPECT_FALSE(wal_key_open(other, uuid, keyring_key, opened));
	other = def;
	other.cipher = CipherId::aes_128_xts;
	EXPECT_FALSE(wal_key_open(other, uuid, keyring_key, opened));
	other = def;
	other.wrapped[20] ^= 1;
	EXPECT_FALSE(wal_key_open(other, uuid, keyring_key, opened));
	EXPECT_FALSE(wal_key_open(def, "ff112233445566778899aabbccddeeff", keyring_key, opened));
	const std::uint8_t wrong[kKeyringKeySize] = {1, 2, 4};
	EXPECT_FALSE(wal_key_open(def, uuid, wrong, opened));
}

} // namespace
} // namespace seal
