// PostgreSQL's data checksum, from the published description of the algorithm (comment of storage/checksum_impl.h), for
// pages whose checksum field counts as zero.
//
// The page is a table of 64 rows and 32 columns of 32-bit words. Each column is hashed by itself from its own start
// value: h = (h ^ word) * prime ^ ((h ^ word) >> 17); two rounds of zeros follow; the columns are xored together, then
// the block number; the result is reduced to 1..65535. The columns are independent, so a row is a few vector operations
// (GCC's and Clang's vector types): a variant for AVX2, in whose registers all sums stay, is chosen at load time where
// the processor has it.
#include "seal/page_cipher.hpp"

#include <cstring>

// Sanitizers do not get along with load-time selection (the selector runs before their runtime is up).
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define SEAL_VECTOR_VARIANTS __attribute__((target_clones("avx2", "default")))
#else
#define SEAL_VECTOR_VARIANTS
#endif

namespace seal {

namespace {

constexpr std::size_t kColumns = 32;
constexpr std::size_t kVectors = 4;
// Eight columns; the compiler splits it where registers are narrower. A plain array of 32 sums would be spilled to
// memory in every row: ten times slower, measured.
using Columns = std::uint32_t __attribute__((vector_size(32)));
static_assert(kVectors * sizeof(Columns) == kColumns * sizeof(std::uint32_t));
constexpr std::size_t kRowSize = kColumns * sizeof(std::uint32_t);
constexpr std::size_t kRows = kPageSize / kRowSize;
constexpr std::uint32_t kPrime = 16777619; // of 32-bit FNV
constexpr unsigned kShift = 17;

// The start values are part of the algorithm's definition.
constexpr std::uint32_t kStart[kColumns] = {
	0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
	0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
	0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
	0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
};

} // namespace

SEAL_VECTOR_VARIANTS static std::uint32_t hash_page(const std::uint8_t* first_row,
                                                    const std::uint8_t* other_rows) noexcept
{
	Columns sums[kVectors];
	std::memcpy(sums, kStart, sizeof sums);
	const std::uint8_t* at = first_row;
	for (std::size_t r = 0; r < kRows; r++) {
#pragma GCC unroll 4 // keeps the sums in registers
		for (std::size_t v = 0; v < kVectors; v++) {
			Columns words;
			std::memcpy(&words, at + v * sizeof words, sizeof words);
			const Columns mixed = sums[v] ^ words;
			sums[v] = (mixed * kPrime) ^ (mixed >> kShift);
		}
		at = r == 0 ? other_rows : at + kRowSize;
	}
	for (int round = 0; round < 2; round++)
#pragma GCC unroll 4
		for (std::size_t v = 0; v < kVectors; v++)
			sums[v] = (sums[v] * kPrime) ^ (sums[v] >> kShift);
	std::uint32_t folded = 0;
#pragma GCC unroll 4
	for (std::size_t v = 0; v < kVectors; v++)
		for (std::size_t c = 0; c < kColumns / kVectors; c++)
			folded ^= sums[v][c];
	return folded;
}

std::uint16_t page_checksum(const std::uint8_t* page, std::uint32_t block) noexcept
{
	std::uint8_t first_row[kRowSize]; // a copy whose checksum field is zero: the page itself stays untouched
	std::memcpy(first_row, page, kRowSize);
	first_row[kPageChecksumOffset] = 0;
	first_row[kPageChecksumOffset + 1] = 0;
	const std::uint32_t hash = hash_page(first_row, page + kRowSize) ^ block;
	return static_cast<std::uint16_t>(hash % 65535 + 1); // never zero
}

bool page_is_zero(const std::uint8_t* page) noexcept
{
	// Nearly every page answers in the first few words.
	for (std::size_t at = 0; at < kPageSize; at += 64) {
		std::uint64_t words[8];
		std::memcpy(words, page + at, sizeof words);
		if ((words[0] | words[1] | words[2] | words[3] | words[4] | words[5] | words[6] | words[7]) != 0)
			return false;
	}
	return true;
}

} // namespace seal
