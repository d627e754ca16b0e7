// pgseal agent: run by the server's agent worker, to which it is tied by a socket pair and by the parent-death signal.
#include "agent_service.hpp"
#include "command.hpp"
#include "process_guard.hpp"

#include <csignal>
#include <cstdio>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace seal::cli {

namespace {

int run_agent(int fd)
{
	int type = 0;
	socklen_t size = sizeof type;
	if (fd < 3 || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM) {
		std::fprintf(stderr, "pgseal: agent needs the descriptor of a stream socket above 2: the server runs it\n");
		return kExitUnable;
	}
	reset_signals();
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || !forbid_dumps())
		std::fprintf(stderr, "pgseal agent: warning: could not protect this process\n");
	close_other_descriptors(fd);
	return serve_agent(fd); // a parent that died before the signal was set has closed its end
}

} // namespace

void add_agent_command(CLI::App& app, int& exit_code)
{
	auto fd = std::make_shared<int>(-1);
	CLI::App* command = app.add_subcommand("agent", "serve provider operations on a socket (run by the server)");
	command->add_option("--fd", *fd, "descriptor of the socket")->required();
	command->callback([fd, &exit_code] { exit_code = run_agent(*fd); });
}

} // namespace seal::cli
