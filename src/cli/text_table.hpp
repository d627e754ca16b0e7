// Rows as aligned text: a heading, then the rows; columns of numbers are aligned to the right.
#pragma once

#include <string>
#include <vector>

namespace seal::cli {

struct TextTable {
	std::vector<std::string> heading;
	std::vector<std::vector<std::string>> rows;
	std::string text() const; // ends with a newline; widths count UTF-8 characters, control characters become '?'
};

} // namespace seal::cli
