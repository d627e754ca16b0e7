// Running another program and reading what it prints.
#pragma once

#include "seal/result.hpp"

#include <string>
#include <vector>

namespace seal::cli {

struct ProgramOutput {
	int exit_code = -1; // 128 + signal when ended by one
	std::string output, errors;
};

// argv[0] by path or PATH; standard input is /dev/null. io_error when it cannot be started.
Result<ProgramOutput> run_program(const std::vector<std::string>& argv);

} // namespace seal::cli
