#include "command.hpp"

#include <cstdio>
#include <exception>

int main(int argc, char** argv)
{
	using namespace seal::cli;
	try {
		CLI::App app{"pgseal: keys, health and files of a PostgreSQL server sealed by pg_seal", "pgseal"};
		app.set_version_flag("--version", std::string("pgseal (pg_seal) ") + kVersion);
		app.require_subcommand(1);
		int exit_code = kExitOk;
		add_status_command(app, exit_code);
		add_doctor_command(app, exit_code);
		add_scan_command(app, exit_code);
		add_unlock_command(app, exit_code);
		add_agent_command(app, exit_code);
		add_exec_command(app, exit_code);
		try {
			app.parse(argc, argv);
		} catch (const CLI::ParseError& error) {
			return app.exit(error) == 0 ? kExitOk : kExitUnable;
		}
		return exit_code;
	} catch (const std::exception& error) {
		std::fprintf(stderr, "pgseal: %s\n", error.what());
		return kExitUnable;
	}
}
