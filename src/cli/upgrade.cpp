#include "upgrade.hpp"

#include "control_file.hpp"
#include "file_text.hpp"
#include "key_file_reader.hpp"
#include "page_scan.hpp"
#include "registry_source.hpp"
#include "subprocess.hpp"

#include "seal/agent_protocol.hpp"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <unistd.h>

namespace seal::cli {

namespace fs = std::filesystem;

namespace {

constexpr char kImport[] = "pg_seal/import";
constexpr std::uint32_t kFirstNormalObject = 16384; // relfilenodes below are catalogs that each cluster made for itself

std::string value_or_environment(const ToolWords& words, const char* option, const char* variable)
{
	if (words.has(option))
		return words.value(option);
	const char* text = std::getenv(variable);
	return text ? text : "";
}

Result<std::string> directory(const std::string& path, const char* what)
{
	std::error_code error;
	const std::string resolved = path.empty() ? "" : fs::canonical(path, error).string();
	if (resolved.empty() || error)
		return Error(ErrorCode::invalid_argument, std::string("the ") + what + " (\"" + path + "\") is not there",
		             "Give pg_upgrade its options -b, -B, -d and -D.");
	return resolved;
}

std::vector<std::string> words_of(const std::string& text)
{
	std::istringstream stream(text);
	std::vector<std::string> words;
	for (std::string word; stream >> word;)
		words.push_back(word);
	return words;
}

bool names_library(const std::string& list)
{
	for (std::string word : [&] {
			 std::string spaced = list;
			 for (char& c : spaced)
				 if (c == ',' || c == '"' || c == '\'')
					 c = ' ';
			 return words_of(spaced);
		 }())
		if (fs::path(word).stem() == "pg_seal")
			return true;
	return false;
}

// The server's binary says what its configuration says.
Status check_server(const std::string& bin, const std::string& data, const std::vector<std::string>& options,
                    const char* which)
{
	const std::string cluster = std::string("the ") + which + " cluster";
	if (server_is_running(data))
		return Error(ErrorCode::unsupported, cluster + "'s server is running", "Stop it first.");
	Result<ControlFile> control = read_control_file(data);
	if (!control)
		return control.error();
	if (!control->clean)
		return Error(ErrorCode::unsupported, cluster + " was not shut down cleanly",
		             "Start its server and stop it with pg_ctl stop -m fast.");
	std::vector<std::string> command = {bin + "/postgres", "-C", "shared_preload_libraries", "-D", data};
	command.insert(command.end(), options.begin(), options.end());
	Result<ProgramOutput> run = run_program(command);
	if (!run || run->exit_code != 0)
		return Error(ErrorCode::io_error,
		             "the settings of " + cluster + " cannot be read" + (run ? ": " + run->errors : ""),
		             "Run as the operating system user that owns the clusters.");
	if (!names_library(run->output))
		return Error(
			ErrorCode::unsupported, "shared_preload_libraries of " + cluster + " does not name pg_seal",
			"A server without the library cannot open what is sealed. Add it to that cluster's postgresql.conf.");
	Result<ProgramOutput> libraries = run_program({bin + "/pg_config", "--pkglibdir"});
	std::error_code ignored;
	if (libraries && libraries->exit_code == 0 &&
	    !fs::exists(libraries->output.substr(0, libraries->output.find('\n')) + "/pg_seal.so", ignored))
		return Error(ErrorCode::not_found, "pg_seal is not installed for " + cluster + "'s server",
		             "Install it (make install with its pg_config).");
	return ok_status();
}

Result<KeyFiles> key_files_of(const std::string& data, std::vector<DatabaseDirectory>* directories)
{
	Result<ControlFile> control = read_control_file(data);
	if (!control)
		return control.error();
	Result<std::vector<DatabaseDirectory>> listed = list_databases(data, control->catalog_version);
	if (!listed)
		return listed.error();
	if (directories)
		*directories = *listed;
	return KeyFiles::read(*listed, control->checksums, false);
}

Status check_data_directory(const std::string& path, const char* which)
{
	if (is_data_directory(path))
		return ok_status();
	return Error(ErrorCode::invalid_argument, "\"" + path + "\" is not the data directory of the " + which + " cluster",
	             "Give the data directory itself, not one that holds its configuration alone.");
}

Error no_registry(const std::string& data, const Error& error)
{
	std::error_code unknown;
	if (error.code == ErrorCode::not_found && !fs::exists(data + "/" + kSealDirectory, unknown) && !unknown)
		return {error.code, error.message,
		        "Run pg_upgrade without pgseal if pg_seal was never set up in the old cluster."};
	return error;
}

Status check_idle(const Registry& registry, const KeyFiles& keys)
{
	for (const OperationDef& operation : registry.operations())
		if (!operation.finished())
			return Error(ErrorCode::unsupported,
			             "operation " + std::to_string(operation.id) + " on tablespace \"" + operation.target +
			                 "\" has not ended",
			             "Let it end in the old cluster, or cancel it (seal.operations).");
	std::size_t halfway = 0;
	keys.each([&](std::uint32_t, std::uint32_t, std::uint32_t, const RelationKey& key) {
		halfway += slot_in_transition(key.state);
	});
	if (halfway > 0)
		return Error(ErrorCode::unsupported,
		             std::to_string(halfway) + " relations of the old cluster are half-way in a conversion",
		             "Start the old server and let the conversion end.");
	if (!keys.damaged().empty())
		return Error(ErrorCode::corrupt, "key file \"" + keys.damaged()[0].path + "\" of the old cluster is damaged",
		             "pgseal scan tells more.");
	return ok_status();
}

// A start of the new server makes pg_seal/ and its audit log; keys of its own are another matter.
Status check_new_is_empty(const UpgradePaths& paths)
{
	Result<std::string> text = read_text_file(paths.new_data + "/" + kRegistryPath);
	if (!text)
		return text.error().code == ErrorCode::not_found ? ok_status() : Status(text.error());
	Result<Registry> present = Registry::parse(*text);
	const Result<std::string> old = read_text_file(paths.old_data + "/" + kRegistryPath);
	if (present && (present->keyrings().empty() || (old && *old == *text)))
		return ok_status(); // nothing, or what an attempt before this one brought
	return Error(ErrorCode::already_exists, "the new cluster has keyrings of its own",
	             "Upgrade into a cluster fresh from initdb.");
}

Error failed(const char* what, const std::string& path)
{
	return {ErrorCode::io_error, std::string("could not ") + what + " \"" + path + "\": " + std::strerror(errno)};
}

// The first page that is not all zero.
Result<bool> first_page_is_sealed(const std::string& path)
{
	std::ifstream file(path, std::ios::binary);
	if (!file)
		return failed("open", path);
	std::array<std::uint8_t, kPageSize> page;
	for (std::uint32_t block = 0; file.read(reinterpret_cast<char*>(page.data()), page.size()); ++block)
		if (const PageKind kind = judge_page(page.data(), block, false).kind; kind != PageKind::zero)
			return kind == PageKind::sealed;
	if (file.bad())
		return failed("read", path);
	return false;
}

Status sync_path(const std::string& path)
{
	const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return failed("open", path);
	const bool synced = fsync(fd) == 0;
	close(fd);
	return synced ? ok_status() : Status(failed("fsync", path));
}

Status carry_file(const fs::path& from, const fs::path& to)
{
	std::error_code error;
	fs::create_directories(to.parent_path(), error);
	if (!error)
		fs::permissions(to.parent_path(), fs::perms::owner_all, error);
	if (!error)
		fs::copy_file(from, to, fs::copy_options::overwrite_existing, error);
	if (error)
		return Error(ErrorCode::io_error,
		             "could not copy \"" + from.string() + "\" to \"" + to.string() + "\": " + error.message());
	if (Status status = sync_path(to); !status)
		return status;
	return sync_path(to.parent_path());
}

} // namespace

Result<UpgradePaths> upgrade_paths(const ToolWords& words)
{
	UpgradePaths paths;
	const std::string default_bin = own_directory();
	const struct {
		std::string* out;
		std::string path;
		const char* what;
	} wanted[] = {
		{&paths.old_data, value_or_environment(words, "old-datadir", "PGDATAOLD"), "old cluster's data directory"},
		{&paths.new_data, value_or_environment(words, "new-datadir", "PGDATANEW"), "new cluster's data directory"},
		{&paths.old_bin, value_or_environment(words, "old-bindir", "PGBINOLD"), "old server's program directory"},
		{&paths.new_bin, value_or_environment(words, "new-bindir", "PGBINNEW"), "new server's program directory"},
	};
	for (const auto& each : wanted) {
		Result<std::string> found =
			directory(each.path.empty() && each.out == &paths.new_bin ? default_bin : each.path, each.what);
		if (!found)
			return found.error();
		*each.out = *found;
	}
	paths.old_options = words_of(words.value("old-options"));
	paths.new_options = words_of(words.value("new-options"));
	for (const char* name : {"c", "ch", "che", "chec", "check"}) // getopt_long() takes what no other option begins with
		paths.only_check = paths.only_check || words.has(name);
	return paths;
}

Result<Registry> check_before_upgrade(const UpgradePaths& paths, const std::string& overrides)
{
	if (Status status = check_data_directory(paths.old_data, "old"); !status)
		return status.error();
	if (Status status = check_data_directory(paths.new_data, "new"); !status)
		return status.error();
	Result<Registry> registry = registry_of_directory(paths.old_data);
	if (!registry)
		return no_registry(paths.old_data, registry.error());
	if (Status status = check_server(paths.old_bin, paths.old_data, paths.old_options, "old"); !status)
		return status.error();
	if (Status status = check_server(paths.new_bin, paths.new_data, paths.new_options, "new"); !status)
		return status.error();
	if (Status status = check_new_is_empty(paths); !status)
		return status.error();
	Result<KeyFiles> keys = key_files_of(paths.old_data, nullptr);
	if (!keys)
		return keys.error();
	if (Status status = check_idle(*registry, *keys); !status)
		return status.error();
	UnlockReply unlocked = unlock_registry(*registry, overrides);
	if (unlocked.error)
		return *unlocked.error;
	return registry;
}

Status carry_into_new_cluster(const UpgradePaths& paths)
{
	const fs::path from = fs::path(paths.old_data) / kSealDirectory, to = fs::path(paths.new_data) / kSealDirectory;
	std::error_code error;
	// pg_seal/audit may be a link to a place of its own.
	for (const auto& entry :
	     fs::recursive_directory_iterator(from, fs::directory_options::follow_directory_symlink, error)) {
		const fs::path name = entry.path().lexically_relative(from);
		// keyfiles tells which key file belongs to which database: the new cluster's are other files.
		if (!entry.is_regular_file() || name == "keyfiles" || name == "registry" || name == "registry.new" ||
		    *name.begin() == "import")
			continue;
		if (Status status = carry_file(entry.path(), to / name); !status)
			return status;
	}
	if (error)
		return Error(ErrorCode::io_error, "could not read directory \"" + from.string() + "\": " + error.message());
	Result<ControlFile> control = read_control_file(paths.old_data);
	if (!control)
		return control.error();
	Result<std::vector<DatabaseDirectory>> directories = list_databases(paths.old_data, control->catalog_version);
	if (!directories)
		return directories.error();
	fs::create_directories(fs::path(paths.new_data) / kImport, error);
	if (error)
		return Error(ErrorCode::io_error,
		             "could not make directory \"" + paths.new_data + "/" + kImport + "\": " + error.message());
	for (const DatabaseDirectory& each : *directories) {
		const fs::path file = fs::path(each.path) / kKeyFileName;
		const bool there = each.database != 0 && fs::exists(file, error);
		if (error) // absent is none
			return Error(ErrorCode::io_error, "could not look at \"" + file.string() + "\": " + error.message());
		if (there)
			if (Status status = carry_file(file, fs::path(paths.new_data) / kImport / std::to_string(each.database));
			    !status)
				return status;
	}
	return carry_file(from / "registry", to / "registry"); // last: with it the new cluster has keys
}

Result<OldKeys> read_old_keys(const UpgradePaths& paths)
{
	Result<KeyFiles> files = key_files_of(paths.old_data, nullptr);
	if (!files)
		return files.error();
	OldKeys keys;
	files->each([&](std::uint32_t database, std::uint32_t tablespace, std::uint32_t rel_node, const RelationKey& key) {
		if (key.has_key() && key.form.cipher != CipherId::none)
			keys.push_back({database, tablespace, rel_node, key});
	});
	return keys;
}

Result<std::size_t> check_after_upgrade(const UpgradePaths& paths, const OldKeys& old_keys)
{
	std::vector<DatabaseDirectory> directories;
	Result<KeyFiles> files = key_files_of(paths.new_data, &directories);
	if (!files)
		return files.error();
	std::map<std::pair<std::uint32_t, std::uint32_t>, std::string> places; // database and tablespace -> directory
	for (const DatabaseDirectory& each : directories)
		places[{each.database, each.tablespace}] = each.path;
	std::size_t carried = 0, wrong = 0;
	for (const OldKey& old : old_keys) {
		RelationFile file;
		file.database = old.database;
		file.tablespace = old.tablespace;
		file.rel_node = old.rel_node;
		const std::optional<RelationKey> now = files->find(file);
		const auto place = places.find({old.database, old.tablespace});
		const std::string path = place == places.end() ? "" : place->second + "/" + std::to_string(old.rel_node);
		std::error_code error;
		const bool there = !path.empty() && fs::exists(path, error);
		if (error)
			return Error(ErrorCode::io_error, "could not look at \"" + path + "\": " + error.message());
		if (!there)
			continue;
		if (old.rel_node < kFirstNormalObject && !now) {
			// A catalog of the new cluster's own, in clear; but pg_largeobject and its index come from the old one.
			Result<bool> sealed = first_page_is_sealed(path);
			if (!sealed)
				return sealed.error();
			wrong += *sealed;
			continue;
		}
		const RelationKey& key = old.key;
		if (now && now->form.cipher == key.form.cipher && now->form.generation == key.form.generation &&
		    now->key_check == key.key_check)
			++carried;
		else
			++wrong;
	}
	if (wrong > 0)
		return Error(ErrorCode::corrupt,
		             std::to_string(wrong) +
		                 " relations of the new cluster have not the key that their pages are sealed with",
		             "Do not start the new cluster and do not remove the old one.");
	return carried;
}

Status remove_import(const UpgradePaths& paths)
{
	std::error_code error;
	fs::remove_all(fs::path(paths.new_data) / kImport, error);
	if (error)
		return Error(ErrorCode::io_error,
		             "could not remove \"" + paths.new_data + "/" + kImport + "\": " + error.message());
	return sync_path(paths.new_data + "/" + kSealDirectory);
}

} // namespace seal::cli
