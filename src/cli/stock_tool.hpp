// The stock programs that `pgseal exec` may run, and what each of them needs.
#pragma once

#include "tool_arguments.hpp"

#include "seal/registry.hpp"

namespace seal::cli {

enum class ToolNeeds {
	nothing,  // it works on sealed WAL as it is
	keys,     // WAL keys, handed to it through the preload library
	key_files // pg_upgrade: what pg_seal keeps is carried over around it
};

struct StockTool {
	std::string name, path; // the path of the executable
	ToolWords words;
	ToolNeeds needs = ToolNeeds::keys;
	std::string wants_directory; // where its own words say that the keys' data directory is; may be empty
};

// not_found: no such tool on the list, or no such program. unsupported: a script, a statically linked or privileged program, or options that hide
// WAL pages from the library. `name` with a slash is a path; else it is looked for beside pgseal itself, then along PATH.
Result<StockTool> find_stock_tool(const std::string& name, const std::vector<std::string>& arguments);

// A program that the dynamic linker starts without privileges: only into such a one can a library be preloaded. ok, or unsupported.
Status check_loadable(const std::string& path);

std::string own_directory(); // of the pgseal executable
bool is_data_directory(const std::string& path);

} // namespace seal::cli
