// pgseal exec: runs a stock tool of PostgreSQL's on sealed WAL.
//
// The keys are unwrapped here and handed over in a sealed memory file; then this process becomes the tool, whose exit status and signals are
// therefore its own (pg_upgrade's are waited for and passed on: something follows it). Nothing is written to a file, an argument or an environment value but the number of a descriptor.
#include "command.hpp"
#include "control_file.hpp"
#include "file_text.hpp"
#include "key_parcel.hpp"
#include "preload.hpp"
#include "process_guard.hpp"
#include "registry_source.hpp"
#include "stock_tool.hpp"
#include "upgrade.hpp"

#include <cstdio>
#include <cstdlib>
#include <filesystem>

namespace seal::cli {

namespace fs = std::filesystem;

namespace {

struct ExecOptions {
	std::string data_directory, from, overrides_file;
	bool plain_ok = false;
	std::vector<std::string> command;
};

int give_up(const Error& error)
{
	std::fprintf(stderr, "pgseal: %s\n", error.message.c_str());
	if (!error.hint.empty())
		std::fprintf(stderr, "hint: %s\n", error.hint.c_str());
	return kExitUnable;
}

bool writes_new_segments(const StockTool& tool) { return tool.name == "pg_receivewal" || tool.name == "pg_basebackup"; }

// The option, what the tool's own words say, the environment; resolved. Not the environment for tools that write another server's WAL: with the keys of
// the wrong cluster that WAL would be lost.
Result<std::string> keys_directory(const ExecOptions& options, const StockTool& tool)
{
	const char* environment = writes_new_segments(tool) ? nullptr : std::getenv("PGDATA");
	const std::string path = !options.data_directory.empty() ? options.data_directory
	                         : !tool.wants_directory.empty() ? tool.wants_directory
	                         : environment                   ? environment
	                                                         : "";
	if (path.empty())
		return Error(ErrorCode::invalid_argument, "no data directory is known that holds the WAL keys for " + tool.name,
		             "Give it before the dashes (pgseal exec -D DATADIR -- " + tool.name +
		                 " ...), or a server with --from.");
	std::error_code error;
	const std::string resolved = fs::canonical(path, error).string();
	if (error || !is_data_directory(resolved))
		return Error(ErrorCode::not_found, "\"" + path + "\" is not a data directory",
		             "Give the one that holds the WAL keys with -D.");
	return resolved;
}

Result<std::string> read_overrides(const ExecOptions& options)
{
	if (options.overrides_file.empty())
		return std::string();
	Result<std::string> text = read_text_file(options.overrides_file);
	if (!text)
		return Error(text.error().code, "provider overrides: " + text.error().message, "Check --overrides.");
	return text;
}

// What pg_rewind works on, wherever the keys come from: the library reads this directory's WAL and spares its audit log.
Result<std::string> target_directory(const StockTool& tool)
{
	std::error_code error;
	const std::string resolved =
		tool.wants_directory.empty() ? "" : fs::canonical(tool.wants_directory, error).string();
	if (resolved.empty() || error || !is_data_directory(resolved))
		return Error(ErrorCode::invalid_argument, "\"" + tool.wants_directory + "\" is not a data directory to rewind",
		             "Give " + tool.name + " its option -D.");
	return resolved;
}

Result<Registry> registry_for(const std::string& server, const std::string& directory, std::uint64_t& system)
{
	if (!server.empty()) {
		Result<ServerRegistry> sent = registry_of_server(server);
		if (!sent)
			return sent.error();
		system = sent->system_identifier;
		return std::move(sent->registry);
	}
	return registry_of_directory(directory);
}

Result<KeyParcel> parcel_for(const ExecOptions& options, const StockTool& tool, const std::string& overrides)
{
	std::string directory;
	std::uint64_t system = 0;
	if (!options.from.empty() && overrides.empty())
		return Error(ErrorCode::invalid_argument,
		             "--from needs --overrides: how this machine reaches the provider is never taken from a server",
		             "Give a JSON file: {\"provider's name\": {\"module\": ..., \"token\": ..., \"pin_file\": ...}}.");
	if (options.from.empty()) {
		Result<std::string> found = keys_directory(options, tool);
		if (!found)
			return found.error();
		directory = *found;
	}
	Result<Registry> registry = registry_for(options.from, directory, system);
	if (!registry && registry.error().code == ErrorCode::not_found)
		return Error(ErrorCode::not_found, "\"" + directory + "\" has no keys: pg_seal has not been set up in it",
		             "Run " + tool.name + " without pgseal, or name the right data directory with -D.");
	if (!registry)
		return registry.error();
	if (tool.name == "pg_resetwal") {
		system = 0; // it works on a damaged control file, and may make up another identifier
	} else if (options.from.empty()) {
		Result<std::uint64_t> found = read_system_identifier(directory);
		if (!found)
			return found.error();
		system = *found;
	}
	if (tool.name == "pg_rewind") {
		Result<std::string> target = target_directory(tool);
		if (!target)
			return target.error();
		directory = *target;
	}
	return make_key_parcel(*registry, system, directory, overrides);
}

// The exit status is pg_upgrade's, or 1 when what it left is not in order.
int run_upgrade(const StockTool& tool, const std::vector<std::string>& arguments, const std::string& library,
                const std::string& overrides)
{
	if (Status probed = probe_preload(tool.path, library); !probed)
		return give_up(probed.error());
	Result<UpgradePaths> paths = upgrade_paths(tool.words);
	if (!paths)
		return give_up(paths.error());
	Result<Registry> registry = check_before_upgrade(*paths, overrides);
	if (!registry)
		return give_up(registry.error());
	if (paths->only_check)
		return give_up(become_tool(tool.path, arguments, "", -1));
	Result<KeyParcel> parcel = make_key_parcel(*registry, 0, "", overrides);
	if (!parcel)
		return give_up(parcel.error());
	Result<OldKeys> old_keys = read_old_keys(*paths);
	if (!old_keys)
		return give_up(old_keys.error());
	if (Status carried = carry_into_new_cluster(*paths); !carried)
		return give_up(carried.error());
	Result<int> status = run_tool(tool.path, arguments, library, parcel->fd);
	if (!status)
		return give_up(status.error());
	if (*status != 0) {
		std::fprintf(stderr, "pgseal: pg_upgrade failed. The keys of the old cluster are as they were; heed what "
		                     "pg_upgrade said about starting it. "
		                     "Make the new one again with initdb.\n");
		return *status;
	}
	Result<std::size_t> carried = check_after_upgrade(*paths, *old_keys);
	if (!carried) {
		give_up(carried.error());
		return kExitProblem;
	}
	if (Status removed = remove_import(*paths); !removed)
		give_up(removed.error()); // it is looked at in a binary upgrade only
	std::printf("pgseal: %zu key records are the new cluster's, and pg_seal/ with them.\n"
	            "pgseal: the new cluster's catalogs are in clear: seal them with seal.encrypt_tablespace() where they "
	            "shall be sealed.\n",
	            *carried);
	return kExitOk;
}

int run_exec(const ExecOptions& options)
{
	const std::vector<std::string> arguments(options.command.begin() + 1, options.command.end());
	Result<StockTool> tool = find_stock_tool(options.command[0], arguments);
	if (!tool)
		return give_up(tool.error());
	if (tool->needs == ToolNeeds::nothing)
		return give_up(become_tool(tool->path, arguments, "", -1));
	Result<std::string> library = find_preload_library();
	if (!library)
		return give_up(library.error());
	if (!forbid_dumps())
		std::fprintf(stderr, "pgseal: warning: could not forbid core dumps of this process\n");
	Result<std::string> overrides = read_overrides(options);
	if (!overrides)
		return give_up(overrides.error());
	if (tool->needs == ToolNeeds::key_files)
		return run_upgrade(*tool, arguments, *library, *overrides);
	if (Status probed = probe_preload(tool->path, *library); !probed)
		return give_up(probed.error());
	Result<KeyParcel> parcel = parcel_for(options, *tool, *overrides);
	if (!parcel)
		return give_up(parcel.error());
	if (!parcel->seals_new && writes_new_segments(*tool) && !options.plain_ok)
		return give_up(Error(
			ErrorCode::unsupported,
			"the WAL of this cluster is not sealed: " + tool->name +
				" would write it in clear, also after WAL is sealed",
			"Call seal.enable_wal_encryption() first, or say --plain-ok and restart the tool once WAL is sealed."));
	return give_up(become_tool(tool->path, arguments, *library, parcel->fd));
}

} // namespace

void add_exec_command(CLI::App& app, int& exit_code)
{
	auto options = std::make_shared<ExecOptions>();
	CLI::App* command =
		app.add_subcommand("exec", "run a stock PostgreSQL tool on sealed WAL: pgseal exec -- pg_waldump ...");
	CLI::Option* directory =
		command->add_option("-D,--pgdata", options->data_directory,
	                        "the data directory that holds the WAL keys (default: the tool's own, else $PGDATA)");
	command->add_option("--from", options->from, "a server to fetch the wrapped WAL keys from (connection string)")
		->excludes(directory);
	command->add_option("--overrides", options->overrides_file, "this machine's provider settings (JSON)");
	command->add_flag("--plain-ok", options->plain_ok,
	                  "let a tool write WAL in clear while the cluster's WAL is not sealed");
	command->add_option("command", options->command, "the tool and its arguments, after --")->required()->take_all();
	command->callback([options, &exit_code] { exit_code = run_exec(*options); });
}

} // namespace seal::cli
