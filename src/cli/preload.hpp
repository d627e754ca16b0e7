// Running a stock tool with the preload library in it.
#pragma once

#include "seal/result.hpp"

#include <string>
#include <vector>

namespace seal::cli {

// Where libseal_preload.so is: beside pgseal (a build tree), or in the server's library directory. not_found names the places.
Result<std::string> find_preload_library();

// Starts the program with --version and waits for the library's word from inside it: a tool that runs without the library would write WAL in clear.
Status probe_preload(const std::string& program, const std::string& library);

// Replaces this process by the program; argv[0] is the program's path. Returns only if that fails. `parcel` -1: without the library.
Error become_tool(const std::string& program, const std::vector<std::string>& arguments, const std::string& library,
                  int parcel);

// The same in a child process, waited for. Interrupts reach the tool, which decides what they mean. Its exit status, or 128 + signal.
Result<int> run_tool(const std::string& program, const std::vector<std::string>& arguments, const std::string& library,
                     int parcel);

} // namespace seal::cli
