// The sealed WAL page: where each byte lies. On disk, in archives and in tools: never renumber, never move.
//
//   short header (24 bytes)              long header (40 bytes; the first page of a segment)
//   bytes   0-23    in clear             bytes   0-39    in clear
//   bytes  24-47    head unit            bytes  40-63    head unit     AES-XTS with ciphertext stealing, wholly in sector 0
//   bytes  48-8191  body unit            bytes  64-8191  body unit     AES-XTS, blocks of 16 bytes aligned to the file offset
//
// A WAL page is rewritten while it fills and after a crash: a torn rewrite mixes sectors, every 16-byte block of the body lies in one
// sector, so bytes that were durable before stay readable (as in plain WAL). A page whose bytes after the header are all zero stays in
// clear and unmarked, but for the first of a segment: one cut short by archive_timeout still compresses.
//
// xlp_info on disk: bits 0-3 are PostgreSQL's (XLP_ALL_FLAGS); a stock server or tool rejects a page with any other ("invalid info bits").
// Bits 4-13: generation of the WAL key modulo 1024; bit 14: zero; bit 15: the sealed marker.
//
// No PostgreSQL header here: the offsets are asserted against xlog_internal.h in src/pg/wal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace seal {

inline constexpr std::size_t kWalPageSize = 8192;
inline constexpr std::size_t kWalShortHeader = 24;
inline constexpr std::size_t kWalLongHeader = 40;
inline constexpr std::size_t kWalHeadUnit = 24;
inline constexpr std::size_t kWalInfoOffset = 2;        // uint16, native byte order
inline constexpr std::size_t kWalTimelineOffset = 4;    // uint32
inline constexpr std::size_t kWalAddressOffset = 8;     // uint64: the page's own address in WAL
inline constexpr std::size_t kWalSystemOffset = 24;      // uint64, long header only: the cluster's system identifier
inline constexpr std::size_t kWalSegmentSizeOffset = 32; // uint32, long header only

inline constexpr std::uint16_t kWalPlainInfo = 0x000F; // XLP_ALL_FLAGS of 15 to 18
inline constexpr std::uint16_t kWalLongInfo = 0x0002;  // XLP_LONG_HEADER
inline constexpr unsigned kWalGenerationShift = 4;
inline constexpr std::uint32_t kWalGenerations = 1024; // marks tell so many apart
inline constexpr std::uint16_t kWalSealedMarker = 0x8000;

inline std::uint16_t wal_info(const std::uint8_t* page) noexcept
{
	std::uint16_t info;
	std::memcpy(&info, page + kWalInfoOffset, sizeof info);
	return info;
}
inline void wal_set_info(std::uint8_t* page, std::uint16_t info) noexcept { std::memcpy(page + kWalInfoOffset, &info, sizeof info); }
inline std::uint64_t wal_address(const std::uint8_t* page) noexcept
{
	std::uint64_t address;
	std::memcpy(&address, page + kWalAddressOffset, sizeof address);
	return address;
}
inline std::uint32_t wal_timeline(const std::uint8_t* page) noexcept
{
	std::uint32_t timeline;
	std::memcpy(&timeline, page + kWalTimelineOffset, sizeof timeline);
	return timeline;
}
inline std::size_t wal_header_size(std::uint16_t info) noexcept { return info & kWalLongInfo ? kWalLongHeader : kWalShortHeader; }
inline bool wal_sealed(std::uint16_t info) noexcept { return (info & kWalSealedMarker) != 0; }
inline std::uint16_t wal_mark(std::uint16_t info) noexcept // generation modulo kWalGenerations, of a sealed page
{
	return static_cast<std::uint16_t>((info >> kWalGenerationShift) & (kWalGenerations - 1));
}
inline std::uint16_t wal_seal_info(std::uint16_t plain, std::uint32_t generation) noexcept
{
	return static_cast<std::uint16_t>((plain & kWalPlainInfo) | kWalSealedMarker |
	                                  ((generation % kWalGenerations) << kWalGenerationShift));
}

} // namespace seal
