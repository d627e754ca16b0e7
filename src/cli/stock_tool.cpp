#include "stock_tool.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <elf.h>
#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace seal::cli {

namespace fs = std::filesystem;

namespace {

const std::vector<ToolOption> kConnection = {
	{'d', "dbname"}, {'h', "host"}, {'p', "port"}, {'U', "username"}, {'s', "status-interval"}};

std::vector<ToolOption> with_connection(std::vector<ToolOption> options)
{
	options.insert(options.end(), kConnection.begin(), kConnection.end());
	return options;
}

struct ToolEntry {
	const char* name;
	ToolNeeds needs;
	std::vector<ToolOption> options; // those that take a value
};

const std::vector<ToolEntry>& tool_list()
{
	static const std::vector<ToolEntry> list = {
		{"pg_waldump",
	     ToolNeeds::keys,
	     {{'B', "block"},
	      {'e', "end"},
	      {'F', "fork"},
	      {'n', "limit"},
	      {'p', "path"},
	      {'r', "rmgr"},
	      {'R', "relation"},
	      {'s', "start"},
	      {'t', "timeline"},
	      {'x', "xid"},
	      {0, "save-fullpage"},
	      {'z', "stats", true}}},
		{"pg_rewind",
	     ToolNeeds::keys,
	     {{'D', "target-pgdata"}, {0, "source-pgdata"}, {0, "source-server"}, {0, "config-file"}, {0, "sync-method"}}},
		{"pg_receivewal", ToolNeeds::keys,
	     with_connection({{'D', "directory"}, {'E', "endpos"}, {'S', "slot"}, {'Z', "compress"}})},
		{"pg_basebackup", ToolNeeds::keys,
	     with_connection({{'D', "pgdata"},
	                      {'F', "format"},
	                      {'r', "max-rate"},
	                      {'t', "target"},
	                      {'T', "tablespace-mapping"},
	                      {'X', "wal-method"},
	                      {'Z', "compress"},
	                      {'c', "checkpoint"},
	                      {'l', "label"},
	                      {'S', "slot"},
	                      {0, "waldir"},
	                      {0, "manifest-checksums"},
	                      {'i', "incremental"},
	                      {0, "sync-method"}})},
		{"pg_resetwal",
	     ToolNeeds::keys,
	     {{'D', "pgdata"},
	      {'c', "commit-timestamp-ids"},
	      {'e', "epoch"},
	      {'l', "next-wal-file"},
	      {'m', "multixact-ids"},
	      {'o', "next-oid"},
	      {'O', "multixact-offset"},
	      {'u', "oldest-transaction-id"},
	      {'x', "next-transaction-id"},
	      {0, "wal-segsize"},
	      {0, "char-signedness"}}},
		{"pg_verifybackup",
	     ToolNeeds::keys,
	     {{'i', "ignore"}, {'m', "manifest-path"}, {'w', "wal-directory"}, {'F', "format"}}},
		{"pg_archivecleanup", ToolNeeds::nothing, {{'x', "strip-extension"}}},
		{"pg_upgrade",
	     ToolNeeds::key_files,
	     {{'b', "old-bindir"},
	      {'B', "new-bindir"},
	      {'d', "old-datadir"},
	      {'D', "new-datadir"},
	      {'j', "jobs"},
	      {'o', "old-options", false, true},
	      {'O', "new-options", false, true},
	      {'p', "old-port"},
	      {'P', "new-port"},
	      {'s', "socketdir"},
	      {'U', "username"}}},
	};
	return list;
}

const ToolEntry* find_entry(const std::string& name)
{
	for (const ToolEntry& entry : tool_list())
		if (name == entry.name)
			return &entry;
	return nullptr;
}

std::string list_text()
{
	std::string text;
	for (const ToolEntry& entry : tool_list())
		text += (text.empty() ? "" : ", ") + std::string(entry.name);
	return text;
}

bool executable(const fs::path& path)
{
	std::error_code ignored;
	return fs::is_regular_file(path, ignored) && access(path.c_str(), X_OK) == 0;
}

// Debian's /usr/bin/pg_basebackup and others are scripts that look for the right version: the ones beside pgseal are meant.
std::string find_program(const std::string& name)
{
	if (name.find('/') != std::string::npos)
		return executable(name) ? name : "";
	if (const fs::path beside = fs::path(own_directory()) / name; executable(beside))
		return beside;
	const char* list = std::getenv("PATH");
	std::string directories = list ? list : "";
	while (!directories.empty()) {
		const std::size_t end = directories.find(':');
		const fs::path candidate = fs::path(directories.substr(0, end)) / name;
		if (executable(candidate))
			return candidate;
		directories.erase(0, end == std::string::npos ? std::string::npos : end + 1);
	}
	return "";
}

Error hides_pages(const std::string& option, const std::string& hint)
{
	return {ErrorCode::unsupported, option + " hides the WAL's pages, which therefore cannot be sealed", hint};
}

// What a tool would write past the library in clear, in a form that has no pages, is refused. Sets what it needs.
Status judge_words(StockTool& tool)
{
	const ToolWords& words = tool.words;
	if (tool.name == "pg_receivewal") {
		const std::string compress = words.value("compress");
		if (words.has("compress") && compress != "0" && compress.rfind("none", 0) != 0)
			return hides_pages("--compress", "Run pg_receivewal without it: sealed pages would not shrink, and those "
			                                 "that are empty are not sealed.");
	} else if (tool.name == "pg_basebackup") {
		const std::string method = words.value("wal-method"), format = words.value("format");
		const bool streams = method != "f" && method != "fetch" && method != "n" && method != "none";
		if (streams && (format == "t" || format == "tar"))
			return hides_pages("--format=tar with streamed WAL", "Give -X fetch: the server then sends its WAL files "
			                                                     "as they are, sealed. Or take a plain backup (-Fp).");
		if (!streams)
			tool.needs = ToolNeeds::nothing;
	}
	if (words.asks_about_tool)
		tool.needs = ToolNeeds::nothing;
	return ok_status();
}

std::string first_data_directory(const std::vector<fs::path>& candidates)
{
	for (const fs::path& path : candidates)
		if (!path.empty() && is_data_directory(path))
			return path;
	return "";
}

// pg_waldump is given a data directory, its pg_wal, or a segment in there.
std::string directory_of_waldump(const ToolWords& words)
{
	std::vector<fs::path> candidates;
	if (words.has("path"))
		candidates = {words.value("path"), fs::absolute(words.value("path")) / ".."};
	for (const std::string& operand : words.operands)
		candidates.push_back(fs::absolute(fs::path(operand)).parent_path().parent_path());
	candidates.push_back(".");
	return first_data_directory(candidates);
}

std::string directory_by_words(const StockTool& tool)
{
	const ToolWords& words = tool.words;
	const std::string first = words.operands.empty() ? "" : words.operands[0];
	if (tool.name == "pg_rewind")
		return words.value("target-pgdata");
	if (tool.name == "pg_resetwal")
		return words.has("pgdata") ? words.value("pgdata") : first;
	if (tool.name == "pg_verifybackup")
		return first;
	if (tool.name == "pg_waldump")
		return directory_of_waldump(words);
	return ""; // pg_basebackup and pg_receivewal: their -D is what they write
}

} // namespace

std::string own_directory()
{
	std::error_code error;
	const fs::path self = fs::read_symlink("/proc/self/exe", error);
	return error ? "" : self.parent_path().string();
}

bool is_data_directory(const std::string& path)
{
	std::error_code ignored;
	return fs::exists(fs::path(path) / "PG_VERSION", ignored) && fs::exists(fs::path(path) / "global", ignored);
}

Status check_loadable(const std::string& path)
{
	const auto refuse = [&](const char* what) {
		return Error(ErrorCode::unsupported, "\"" + path + "\" " + what,
		             "Give the path of the server package's own program, as in /usr/lib/postgresql/15/bin/pg_waldump.");
	};
	struct stat file {};
	if (stat(path.c_str(), &file) != 0)
		return Error(ErrorCode::not_found, "could not stat \"" + path + "\": " + std::strerror(errno));
	if ((file.st_mode & (S_ISUID | S_ISGID)) != 0 || getxattr(path.c_str(), "security.capability", nullptr, 0) > 0)
		return refuse("is a program with privileges of its own, into which no library can be preloaded");
	std::ifstream stream(path, std::ios::binary);
	Elf64_Ehdr header{};
	if (!stream.read(reinterpret_cast<char*>(&header), sizeof header) ||
	    std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
		return refuse("is a script, not a program");
	if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_phentsize != sizeof(Elf64_Phdr))
		return refuse("is not a 64-bit program");
	stream.seekg(static_cast<std::streamoff>(header.e_phoff));
	for (unsigned i = 0; i < header.e_phnum; ++i) {
		Elf64_Phdr segment{};
		if (!stream.read(reinterpret_cast<char*>(&segment), sizeof segment))
			break;
		if (segment.p_type == PT_INTERP)
			return ok_status();
	}
	return refuse("is statically linked, so that no library can be preloaded into it");
}

Result<StockTool> find_stock_tool(const std::string& name, const std::vector<std::string>& arguments)
{
	StockTool tool;
	tool.name = fs::path(name).filename();
	const ToolEntry* entry = find_entry(tool.name);
	if (!entry)
		return Error(ErrorCode::not_found, "\"" + tool.name + "\" is not a program that can be run with WAL keys",
		             "These can: " + list_text() + ".");
	const std::string found = find_program(name);
	if (found.empty())
		return Error(ErrorCode::not_found, "there is no program \"" + name + "\"", "Give its path.");
	std::error_code error;
	tool.path = fs::canonical(found, error).string(); // the library goes by this name
	if (error)
		return Error(ErrorCode::not_found, "could not resolve \"" + found + "\": " + error.message());
	tool.needs = entry->needs;
	tool.words = read_tool_words(entry->options, arguments);
	if (Status status = check_loadable(tool.path); !status)
		return status.error();
	if (fs::path(tool.path).filename() != tool.name)
		return Error(ErrorCode::unsupported, "\"" + found + "\" is in truth \"" + tool.path + "\"",
		             "Give the path of the program itself.");
	if (Status status = judge_words(tool); !status)
		return status.error();
	tool.wants_directory = directory_by_words(tool);
	return tool;
}

} // namespace seal::cli
