// Walking a data directory's relation files and WAL, and counting what their pages are. Reads only; needs no key and no server.
#pragma once

#include "control_file.hpp"
#include "key_file_reader.hpp"
#include "page_scan.hpp"
#include "wal_scan.hpp"

#include <map>

namespace seal::cli {

struct PageCounts {
	std::uint64_t sealed = 0, plain = 0, zero = 0, damaged = 0;
	std::uint64_t keyless = 0; // of the sealed ones: no key file names the key that sealed them
	std::uint64_t total() const { return sealed + plain + zero + damaged; }
	PageCounts& operator+=(const PageCounts& other);
};

struct RelationScan {
	std::uint32_t database = 0, tablespace = 0, rel_node = 0;
	bool temporary = false, has_key = false, plain_expected = true;
	std::optional<RelationKey> key; // its live record, if it has one
	std::map<std::string, PageCounts> forks;
	PageCounts totals() const;
	const char* state() const; // in the words of seal.relations
};

struct Finding {
	std::string path;
	std::uint64_t block; // within the file
	std::string what;
};

struct ScanOptions {
	std::string data_directory;
	std::vector<std::string> tablespaces; // OID, pg_default, pg_global, or (the last part of) a location; empty: all
	std::vector<std::string>
		wal_directories; // besides the data directory's own pg_wal, which is left out if tablespaces are named
	bool plain_ok = false, json = false, quiet = false, online = false, summary = false;
};

struct ScanResult {
	bool checksums = false, clean = false, online = false;
	std::vector<RelationScan> relations;
	PageCounts totals;
	std::uint64_t key_slots = 0;
	std::vector<WalDirectoryScan> wal;
	std::vector<Finding> findings; // the first kMostFindings of them
	std::uint64_t finding_count = 0;
	std::uint64_t unexpected_plain = 0; // plain pages where there should be none (0 with plain_ok)
	bool as_expected() const { return finding_count == 0 && unexpected_plain == 0; }
};

inline constexpr std::size_t kMostFindings = 1000;

Result<ScanResult> scan_data_directory(const ScanOptions& options);

void print_scan_text(const ScanResult& result, bool summary); // summary: by tablespace, not by relation
void print_scan_json(const ScanResult& result);

} // namespace seal::cli
