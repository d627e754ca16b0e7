// pgseal unlock: run by the server at its start. Unwraps every keyring key that the registry names and writes them to
// standard output as one frame, and nothing else there. The reader is a pipe of the server's; never a terminal, never
// a file of ours.
#include "command.hpp"
#include "file_text.hpp"
#include "process_guard.hpp"

#include "seal/agent_protocol.hpp"

#include <cstdio>
#include <sys/stat.h>
#include <unistd.h>

namespace seal::cli {

namespace {

struct UnlockOptions {
	std::string data_directory, overrides_file;
};

// Empty file text for an absent registry: a server without keyrings.
Result<UnlockReply> unlock(const UnlockOptions& options)
{
	std::string overrides;
	if (!options.overrides_file.empty()) {
		Result<std::string> text = read_text_file(options.overrides_file);
		if (!text)
			return Error(text.error().code, "provider overrides: " + text.error().message,
			             "Check pg_seal.provider_overrides_file.");
		overrides = std::move(*text);
	}
	Result<std::string> text = read_text_file(options.data_directory + "/" + kRegistryPath);
	if (!text) {
		if (text.error().code == ErrorCode::not_found)
			return UnlockReply{};
		return text.error();
	}
	Result<Registry> registry = Registry::parse(*text);
	if (!registry)
		return Error(registry.error().code, "the registry of keys: " + registry.error().message, registry.error().hint);
	return unlock_registry(*registry, overrides);
}

int run_unlock(const UnlockOptions& options)
{
	struct stat output;
	if (isatty(STDOUT_FILENO) || fstat(STDOUT_FILENO, &output) != 0 ||
	    !(S_ISFIFO(output.st_mode) || S_ISSOCK(output.st_mode))) {
		std::fprintf(
			stderr,
			"pgseal: unlock writes keys to its standard output, which must be a pipe: the server runs it at start\n");
		return kExitProblem;
	}
	reset_signals();
	if (!forbid_dumps())
		std::fprintf(stderr, "pgseal: warning: could not forbid core dumps of this process\n");
	close_other_descriptors(-1);
	Result<UnlockReply> result = unlock(options);
	UnlockReply reply;
	if (result)
		reply = std::move(*result);
	else
		reply.error = result.error();
	if (reply.error)
		std::fprintf(stderr, "pgseal: %s\n", reply.error->message.c_str());
	Bytes message = reply.encode();
	const Status written =
		write_frame(STDOUT_FILENO, 0, message, std::chrono::steady_clock::now() + std::chrono::seconds(30));
	wipe_message(message);
	if (!written) {
		std::fprintf(stderr, "pgseal: %s\n", written.error().message.c_str());
		return kExitProblem;
	}
	return kExitOk;
}

} // namespace

void add_unlock_command(CLI::App& app, int& exit_code)
{
	auto options = std::make_shared<UnlockOptions>();
	CLI::App* command = app.add_subcommand("unlock", "unwrap the keyring keys (run by the server at its start)");
	command->add_option("-D,--pgdata", options->data_directory, "the data directory")->required();
	command->add_option("--overrides", options->overrides_file, "per-node provider settings (JSON)");
	command->callback([options, &exit_code] { exit_code = run_unlock(*options); });
}

} // namespace seal::cli
