// global/pg_control, as far as an offline reader needs it: page size, checksums, how the server last stopped.
#pragma once

#include "seal/result.hpp"

#include <cstdint>
#include <string>

namespace seal::cli {

struct ControlFile {
	std::uint32_t catalog_version = 0;
	std::uint32_t segment_blocks = 0;
	bool checksums = false;
	bool clean = false; // shut down, as a primary or during recovery
};

// Of PostgreSQL 13 to 17 (pg_control version 1300). corrupt: wrong CRC; unsupported: another version or page size.
Result<ControlFile> read_control_file(const std::string& data_directory);

// Its first eight bytes, whatever the rest says.
Result<std::uint64_t> read_system_identifier(const std::string& data_directory);

// First line of postmaster.pid names a live process.
bool server_is_running(const std::string& data_directory);

} // namespace seal::cli
