// The sealed relation page: where each byte lies. On disk: never renumber, never move.
//
//   bytes    0-23    PostgreSQL's page header, in clear (LSN, checksum, flags, lower, upper, special, version, xid)
//   bytes   24-47    head unit: AES-XTS with ciphertext stealing, a data unit of its own, wholly in sector 0
//   bytes   48-8191  body unit: AES-XTS, 509 blocks of 16 bytes, each aligned to the file offset
//
// A torn write mixes old and new sectors (512 bytes or a multiple). Every 16-byte block of the body lies inside one
// sector and decrypts by itself, and header and head unit share sector 0, so the mixture decrypts to the same mixture
// of the two plain pages: a torn sealed page is exactly as repairable as a torn plain page.
//
// A new page is zeroes on disk, sealed or not, until it is first written. A torn first write leaves sectors of zeroes behind a
// sealed header, so a sector of zeroes in a sealed page means "not written yet" and opens to zeroes, as it would in a plain
// page (512 bytes of ciphertext are zero by chance once in 2^4096).
//
// No PostgreSQL header here: the offsets below are asserted against bufpage.h in src/pg/storage/page_seal.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace seal {

inline constexpr std::size_t kPageSize = 8192;
inline constexpr std::size_t kPageHeaderSize = 24;
inline constexpr std::size_t kHeadOffset = 24;
inline constexpr std::size_t kHeadSize = 24;
inline constexpr std::size_t kBodyOffset = 48;
inline constexpr std::size_t kBodySize = kPageSize - kBodyOffset;
static_assert(kBodySize == 8144 && kBodySize % 16 == 0 && kBodyOffset % 16 == 0);

inline constexpr std::size_t kSectorSize = 512; // the largest unit that a torn write never divides
inline constexpr std::size_t kPageChecksumOffset = 8; // uint16, native byte order
inline constexpr std::size_t kPageFlagsOffset = 10;   // uint16, native byte order
inline constexpr std::size_t kPageUpperOffset = 14;   // uint16: 0 means "new page" to PostgreSQL

// pd_flags on disk: bits 0-2 are PostgreSQL's (PD_VALID_FLAG_BITS), the others are clear in a plain page and a stock
// server rejects a page that has any of them ("invalid page in block ...").
inline constexpr std::uint16_t kFlagsPlainMask = 0x0007;
inline constexpr unsigned kGenerationShift = 3; // bits 3-10: DEK generation modulo 256
inline constexpr unsigned kCipherShift = 11;    // bits 11-14: CipherId
inline constexpr std::uint16_t kSealedMarker = 0x8000;

// Format and cipher of a page or a key. Stored on disk: never renumber. 4 bits wide.
enum class CipherId : std::uint8_t {
	none = 0,        // plain
	aes_256_xts = 1, // 64-byte key
	aes_128_xts = 2, // 32-byte key
	throwaway =
		15, // AES-256-XTS under a key of this recovery alone; no such page outlives it (PageCipher refuses it: the
			// server puts the mark itself)
};

struct PageMark {
	CipherId cipher;
	std::uint8_t generation;
};

constexpr bool flags_sealed(std::uint16_t flags) noexcept { return (flags & kSealedMarker) != 0; }
constexpr PageMark flags_mark(std::uint16_t flags) noexcept
{
	return {static_cast<CipherId>((flags >> kCipherShift) & 0x0F),
	        static_cast<std::uint8_t>(flags >> kGenerationShift)};
}
constexpr std::uint16_t flags_seal(std::uint16_t plain_flags, PageMark mark) noexcept
{
	return static_cast<std::uint16_t>((plain_flags & kFlagsPlainMask) | kSealedMarker |
	                                  (static_cast<unsigned>(mark.cipher) << kCipherShift) |
	                                  (static_cast<unsigned>(mark.generation) << kGenerationShift));
}
constexpr std::uint16_t flags_unseal(std::uint16_t flags) noexcept { return flags & kFlagsPlainMask; }

// Fork class in the tweak. The init fork counts as main: PostgreSQL resets unlogged relations by a raw copy of it.
enum class ForkClass : std::uint8_t { main = 0, fsm = 1, vm = 2 };

} // namespace seal
