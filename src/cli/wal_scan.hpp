// What the pages of WAL segments in a directory are: sealed, by generation, or in clear. Reads only; needs no key.
#pragma once

#include "seal/registry.hpp"

#include <map>
#include <string>
#include <vector>

namespace seal::cli {

struct WalDirectoryScan {
	std::string path;
	std::uint64_t segments = 0;          // whole, partial, and those on their way (xlogtemp.N, RECOVERYXLOG)
	std::uint64_t segments_in_clear = 0; // with contents of their own in clear
	std::uint64_t not_examined = 0;      // named as a segment, but packed (something behind the name) or no WAL
	std::map<std::uint32_t, std::uint64_t> sealed; // generation -> pages; of one that nobody knows, what its mark says
	std::uint64_t plain = 0;                       // pages with contents, in clear
	std::uint64_t empty = 0;                       // a header and nothing else: never sealed
	std::uint64_t zero = 0;                        // not written yet
	std::uint64_t left_sealed = 0, left_plain = 0; // of an earlier segment, in a recycled file
	std::map<std::string, std::uint32_t> unknown;  // segment -> a generation that the registry does not name
	std::uint64_t sealed_total() const;
};

// Of the directory itself and of those in it that are named by 16 hexadecimal digits (an archive of pgBackRest's). `vanishing`: a server is at work there, files may go while they are looked at.
Result<WalDirectoryScan> scan_wal_directory(const std::string& path, const WalKeysDef& keys, bool vanishing);

} // namespace seal::cli
