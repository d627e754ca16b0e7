#include "text_table.hpp"

#include <algorithm>

namespace seal::cli {

namespace {

std::size_t width_of(const std::string& text)
{
	return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

std::string printable(const std::string& text) // what a server sends must not steer the terminal
{
	std::string out = text;
	for (char& c : out)
		if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
			c = c == '\n' ? ' ' : '?';
	return out;
}

bool numeric(const std::string& text)
{
	return !text.empty() && text.find_first_not_of("0123456789.-") == std::string::npos;
}

} // namespace

std::string TextTable::text() const
{
	std::vector<std::vector<std::string>> lines = {heading};
	lines.insert(lines.end(), rows.begin(), rows.end());
	std::vector<std::size_t> widths(heading.size(), 0);
	std::vector<bool> right(heading.size(), !rows.empty());
	for (std::size_t l = 0; l < lines.size(); ++l)
		for (std::size_t c = 0; c < heading.size(); ++c) {
			lines[l][c] = printable(lines[l][c]);
			widths[c] = std::max(widths[c], width_of(lines[l][c]));
			right[c] = right[c] && (l == 0 || lines[l][c].empty() || numeric(lines[l][c]));
		}
	std::string out;
	for (const std::vector<std::string>& line : lines) {
		std::string row;
		for (std::size_t c = 0; c < line.size(); ++c) {
			const std::string blanks(widths[c] - width_of(line[c]), ' ');
			row += (c ? "  " : "") + (right[c] ? blanks + line[c] : line[c] + blanks);
		}
		row.erase(row.find_last_not_of(' ') + 1);
		out += row + "\n";
	}
	return out;
}

} // namespace seal::cli
