// WalParcel: the WAL keys that `pgseal exec` hands to the preload library in a stock tool's process.
//
// It travels in a sealed memory file (memfd) whose descriptor number stands in an environment variable: never in a file system, an
// argument or an environment value. Both sides belong to one build of pg_seal; the format number refuses a mixed pair.
// Keys are the expanded ones of seal/wal_key.hpp, in clear: whoever holds a parcel wipes it (seal::wipe).
#pragma once

#include "seal/wal_cipher.hpp"

#include <cstddef>
#include <cstdint>

namespace seal {

inline constexpr char kParcelVariable[] = "PG_SEAL_PARCEL_FD"; // the memory file's descriptor
inline constexpr char kParcelProbeVariable[] =
	"PG_SEAL_PROBE_FD"; // the library says here that it was loaded, and no more
inline constexpr char kParcelProbeAnswer[] = "pg_seal preload 1\n";
inline constexpr std::uint8_t kParcelMagic[8] = {'P', 'G', 'S', 'E', 'A', 'L', 'W', 'P'};
inline constexpr std::uint32_t kParcelFormat = 2;
inline constexpr std::size_t kParcelPathSize = 4096;

struct WalParcelHeader {
	std::uint8_t magic[8];
	std::uint32_t format;
	std::uint32_t newest; // generation that new segments get; 0: WAL is not sealed
	std::uint32_t count;  // keys that follow, ascending generations, at most kWalGenerations
	std::uint32_t reserved;
	// Whose WAL the keys are for: generations of different clusters have the same numbers. 0: not checked (pg_resetwal and
	// pg_upgrade make WAL of an identifier that is not known beforehand).
	std::uint64_t system_identifier;
	char data_directory[kParcelPathSize]; // resolved; empty: none
};
struct WalParcelKey {
	std::uint32_t generation;
	CipherId cipher;
	std::uint8_t reserved[3];
	std::uint8_t key[kWalKeySize];
};
static_assert(sizeof(WalParcelHeader) == 32 + kParcelPathSize && sizeof(WalParcelKey) == 8 + kWalKeySize);

// Whole and sensible: magic, format, count, order of generations, a newest one that is there.
[[nodiscard]] inline bool wal_parcel_valid(const WalParcelHeader& header, const WalParcelKey* keys,
                                           std::size_t bytes) noexcept
{
	if (std::memcmp(header.magic, kParcelMagic, sizeof header.magic) != 0 || header.format != kParcelFormat ||
	    header.count > kWalGenerations || bytes != sizeof header + header.count * sizeof(WalParcelKey) ||
	    header.data_directory[kParcelPathSize - 1] != '\0')
		return false;
	bool newest_there = header.newest == 0;
	for (std::uint32_t i = 0; i < header.count; ++i) {
		if (keys[i].generation == 0 || (i > 0 && keys[i].generation <= keys[i - 1].generation))
			return false;
		newest_there = newest_there || keys[i].generation == header.newest;
	}
	return newest_there;
}

} // namespace seal
