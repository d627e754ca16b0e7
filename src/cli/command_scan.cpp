// pgseal scan: which pages of a stopped server's files are sealed, plain, zero or damaged, and which WAL lies in clear.
#include "command.hpp"
#include "scan.hpp"

#include <cstdio>

namespace seal::cli {

namespace {

int run_scan(const ScanOptions& options)
{
	Result<ScanResult> result = scan_data_directory(options);
	if (!result) {
		std::fprintf(stderr, "pgseal: %s\n", result.error().message.c_str());
		if (!result.error().hint.empty())
			std::fprintf(stderr, "hint: %s\n", result.error().hint.c_str());
		return kExitUnable;
	}
	if (options.json)
		print_scan_json(*result);
	else if (!options.quiet)
		print_scan_text(*result, options.summary);
	return result->as_expected() ? kExitOk : kExitProblem;
}

} // namespace

void add_scan_command(CLI::App& app, int& exit_code)
{
	auto options = std::make_shared<ScanOptions>();
	CLI::App* command = app.add_subcommand("scan", "count sealed, plain, zero and damaged pages in a data directory");
	command->add_option("datadir", options->data_directory, "the data directory")
		->required()
		->check(CLI::ExistingDirectory);
	command
		->add_option("--tablespace", options->tablespaces,
	                 "only this tablespace, where every page must be sealed: OID, pg_default, pg_global, or its "
	                 "location (repeatable)")
		->take_all();
	command
		->add_option("--wal", options->wal_directories,
	                 "also the WAL segments in this directory, such as an archive (repeatable)")
		->check(CLI::ExistingDirectory);
	command->add_flag("--plain-ok", options->plain_ok, "plain pages are no problem (a conversion is under way)");
	command->add_flag("--online", options->online, "the server may be running: a snapshot");
	command->add_flag("--summary", options->summary, "no line for each relation, only one for each tablespace");
	command->add_flag("--json", options->json, "the result as JSON");
	command->add_flag("--quiet", options->quiet, "print nothing, set the exit code");
	command->callback([options, &exit_code] { exit_code = run_scan(*options); });
}

} // namespace seal::cli
