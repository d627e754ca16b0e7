// Reads "name = value" blocks of CAVP response files and of the RFC vector files beside them. A block ends at an empty
// line or where a count begins; "[name = value]" and "[WORD]" lines are sections and apply to the blocks that follow.
#pragma once

#include "seal/bytes.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace seal::test {

struct Vector {
	std::map<std::string, std::string> values;
	std::string section; // the last "[WORD]"
	bool fails = false;  // a line "FAIL"

	bool has(const std::string& name) const { return values.count(name) != 0; }
	const std::string& text(const std::string& name) const { return values.at(name); }
	int number(const std::string& name) const { return std::stoi(values.at(name)); }
	Bytes hex(const std::string& name) const
	{
		Bytes out;
		EXPECT_TRUE(from_hex(values.at(name), out)) << name;
		return out;
	}
};

inline std::string trimmed(std::string text)
{
	const std::size_t first = text.find_first_not_of(" \t\r");
	if (first == std::string::npos)
		return {};
	return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

inline std::vector<Vector> read_vectors(const std::string& file)
{
	std::ifstream in(std::string(SEAL_VECTOR_DIR) + "/" + file);
	EXPECT_TRUE(in) << "cannot open " << file;
	std::vector<Vector> vectors;
	Vector current;
	std::string line, section;
	const auto finish = [&] {
		current.section = section;
		if (!current.values.empty())
			vectors.push_back(current);
		current = {};
	};
	while (std::getline(in, line)) {
		line = trimmed(line);
		if (line.empty()) {
			finish();
		} else if (line == "FAIL") {
			current.fails = true;
		} else if (line.front() == '[') {
			if (line.find('=') == std::string::npos)
				section = line.substr(1, line.size() - 2);
		} else if (const std::size_t equals = line.find('='); line.front() != '#' && equals != std::string::npos) {
			current.values[trimmed(line.substr(0, equals))] = trimmed(line.substr(equals + 1));
		}
	}
	finish();
	return vectors;
}

} // namespace seal::test
