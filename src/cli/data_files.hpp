// Which files of a data directory hold relation pages, and what their names say.
#pragma once

#include "seal/result.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace seal::cli {

inline constexpr std::uint32_t kDefaultTablespace = 1663; // pg_default, base/
inline constexpr std::uint32_t kGlobalTablespace = 1664;  // pg_global, global/

struct RelationFile {
	std::string path;
	std::uint32_t database = 0, tablespace = 0, rel_node = 0;
	std::string fork = "main"; // main, fsm, vm, init
	std::uint32_t segment = 0;
	bool temporary = false; // t<backend>_...: sealed by a key that was never stored
};

// One directory of one database in one tablespace.
struct DatabaseDirectory {
	std::string path;
	std::uint32_t database = 0, tablespace = 0; // database 0: global/
};

struct TablespaceLocation {
	std::uint32_t oid = 0;
	std::string location; // empty for pg_default and pg_global
};

// "16384", "16384.2", "16384_fsm", "t3_16384_vm.1"; false for any other name.
bool parse_relation_name(const std::string& name, RelationFile& out);

Result<std::vector<TablespaceLocation>> list_tablespaces(const std::string& data_directory);
// Every database directory, in the order global, base, other tablespaces.
Result<std::vector<DatabaseDirectory>> list_databases(const std::string& data_directory, std::uint32_t catalog_version);
// Sorted by relation, fork and segment.
Result<std::vector<RelationFile>> list_relation_files(const DatabaseDirectory& directory);

} // namespace seal::cli
