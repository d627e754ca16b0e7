#include "data_files.hpp"

#include "file_text.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <tuple>

namespace seal::cli {

namespace fs = std::filesystem;

namespace {

// A decimal number without sign or leading zero, at the front of `text`; it is cut off there.
bool take_number(std::string_view& text, std::uint32_t& out)
{
	const char* end = text.data() + text.size();
	const auto [stop, error] = std::from_chars(text.data(), end, out);
	if (error != std::errc() || text.front() < '0' || text.front() > '9' ||
	    (text.front() == '0' && stop != text.data() + 1))
		return false;
	text.remove_prefix(static_cast<std::size_t>(stop - text.data()));
	return true;
}

bool whole_number(std::string_view text, std::uint32_t& out)
{
	return !text.empty() && take_number(text, out) && text.empty();
}

// Calls body(name) for each entry; an error names the directory.
template <class Body> Status each_entry(const std::string& path, Body body)
{
	std::error_code error;
	fs::directory_iterator entry(path, error), end;
	while (!error && entry != end) {
		body(entry->path().filename().string());
		entry.increment(error);
	}
	if (error)
		return Error(ErrorCode::io_error, "could not read directory \"" + path + "\": " + error.message());
	return ok_status();
}

Status add_databases(const std::string& path, std::uint32_t tablespace, std::vector<DatabaseDirectory>& out)
{
	std::vector<DatabaseDirectory> found;
	Status status = each_entry(path, [&](const std::string& name) {
		std::uint32_t database = 0;
		if (whole_number(name, database))
			found.push_back({path + "/" + name, database, tablespace});
	});
	std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.database < b.database; });
	out.insert(out.end(), found.begin(), found.end());
	return status;
}

} // namespace

bool parse_relation_name(const std::string& name, RelationFile& out)
{
	std::string_view rest = name;
	if (rest.substr(0, 1) == "t") {
		rest.remove_prefix(1);
		std::uint32_t backend = 0;
		if (rest.empty() || !take_number(rest, backend) || rest.substr(0, 1) != "_")
			return false;
		rest.remove_prefix(1);
		out.temporary = true;
	}
	if (rest.empty() || !take_number(rest, out.rel_node) || out.rel_node == 0)
		return false;
	for (const char* fork : {"fsm", "vm", "init"}) {
		const std::string suffix = std::string("_") + fork;
		if (rest.substr(0, suffix.size()) == suffix) {
			out.fork = fork;
			rest.remove_prefix(suffix.size());
			break;
		}
	}
	if (rest.empty())
		return true;
	if (rest.front() != '.')
		return false;
	rest.remove_prefix(1);
	return whole_number(rest, out.segment) && out.segment > 0;
}

Result<std::vector<TablespaceLocation>> list_tablespaces(const std::string& data_directory)
{
	std::vector<TablespaceLocation> found = {{kDefaultTablespace, ""}, {kGlobalTablespace, ""}};
	const std::string links = data_directory + "/pg_tblspc";
	Status status = each_entry(links, [&](const std::string& name) {
		TablespaceLocation tablespace;
		std::error_code ignored; // a directory in place of a link (allow_in_place_tablespaces) has no location
		if (!whole_number(name, tablespace.oid))
			return;
		tablespace.location = fs::read_symlink(links + "/" + name, ignored).string();
		found.push_back(tablespace);
	});
	if (!status)
		return status.error();
	std::sort(found.begin() + 2, found.end(), [](const auto& a, const auto& b) { return a.oid < b.oid; });
	return found;
}

Result<std::vector<DatabaseDirectory>> list_databases(const std::string& data_directory, std::uint32_t catalog_version)
{
	Result<std::string> major = read_text_file(data_directory + "/PG_VERSION");
	if (!major)
		return major.error();
	while (!major->empty() && major->back() == '\n')
		major->pop_back();
	const std::string version_directory = "PG_" + *major + "_" + std::to_string(catalog_version);
	std::vector<DatabaseDirectory> found = {{data_directory + "/global", 0, kGlobalTablespace}};
	if (Status status = add_databases(data_directory + "/base", kDefaultTablespace, found); !status)
		return status.error();
	Result<std::vector<TablespaceLocation>> tablespaces = list_tablespaces(data_directory);
	if (!tablespaces)
		return tablespaces.error();
	for (const TablespaceLocation& tablespace : *tablespaces) {
		if (tablespace.oid == kDefaultTablespace || tablespace.oid == kGlobalTablespace)
			continue;
		const std::string path =
			data_directory + "/pg_tblspc/" + std::to_string(tablespace.oid) + "/" + version_directory;
		if (Status status = add_databases(path, tablespace.oid, found); !status)
			return status.error();
	}
	return found;
}

Result<std::vector<RelationFile>> list_relation_files(const DatabaseDirectory& directory)
{
	std::vector<RelationFile> found;
	Status status = each_entry(directory.path, [&](const std::string& name) {
		RelationFile file;
		if (!parse_relation_name(name, file))
			return;
		file.path = directory.path + "/" + name;
		file.database = directory.database;
		file.tablespace = directory.tablespace;
		found.push_back(std::move(file));
	});
	if (!status)
		return status.error();
	std::sort(found.begin(), found.end(), [](const RelationFile& a, const RelationFile& b) {
		return std::tie(a.rel_node, a.temporary, a.fork, a.segment) <
		       std::tie(b.rel_node, b.temporary, b.fork, b.segment);
	});
	return found;
}

} // namespace seal::cli
