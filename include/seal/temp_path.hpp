// Which of the server's files live no longer than it runs and hold data of users: told by the path that it opens.
//   temporary   base/pgsql_tmp/..., pg_tblspc/OID/PG_*/pgsql_tmp/... (sorts, hashes, shared filesets, the apply worker's changes)
//   spill       pg_replslot/SLOT/*.spill (logical decoding)
//   notify      pg_notify/* (the queue of NOTIFY)
// Pure: no file is touched.
#pragma once

#include <cstdint>
#include <string_view>

namespace seal {

enum class TempPathKind : std::uint8_t { other, temporary, spill, notify };

struct TempPath {
	TempPathKind kind;
	std::string_view relative; // within the data directory: what all processes call the file
};

// `path` as given to open(2): relative to the data directory, perhaps with "./", or absolute.
TempPath classify_temp_path(std::string_view path, std::string_view data_directory) noexcept;

} // namespace seal
