// What the words after `pgseal exec -- TOOL` say, as far as it decides which keys the tool needs and whether it can be served.
//
// The tools read their words with getopt_long(): options with or without a value, abbreviated long names, words without a dash anywhere
// between. The tables say which options take a value (PostgreSQL 15 to 18); one that is not in them is taken for a flag.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace seal::cli {

struct ToolOption {
	char letter;           // 0: none
	const char* name;      // the long name
	bool optional = false; // its value, if any, follows after "="
	bool gathers = false;  // given again, its values are joined
};

struct ToolWords {
	std::map<std::string, std::string> options; // by long name; the last one counts
	std::vector<std::string> operands;
	bool asks_about_tool = false; // --help or --version

	bool has(const std::string& name) const { return options.count(name) != 0; }
	std::string value(const std::string& name) const
	{
		const auto found = options.find(name);
		return found == options.end() ? "" : found->second;
	}
};

ToolWords read_tool_words(const std::vector<ToolOption>& with_value, const std::vector<std::string>& words);

} // namespace seal::cli
