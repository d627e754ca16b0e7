// Reading a small text file whole.
#pragma once

#include "seal/result.hpp"

#include <string>

namespace seal::cli {

// not_found when it does not exist, io_error otherwise; at most 64 MiB.
Result<std::string> read_text_file(const std::string& path);

} // namespace seal::cli
