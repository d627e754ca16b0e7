#include "process_guard.hpp"

#include <csignal>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

namespace seal::cli {

bool forbid_dumps()
{
	const rlimit none = {0, 0};
	return setrlimit(RLIMIT_CORE, &none) == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0;
}

void reset_signals()
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, nullptr);
	std::signal(SIGCHLD, SIG_DFL);
	std::signal(SIGPIPE, SIG_IGN);
}

void close_other_descriptors(int keep)
{
	if (keep < 3) {
		close_range(3, ~0u, 0);
		return;
	}
	const auto fd = static_cast<unsigned>(keep);
	if (fd > 3)
		close_range(3, fd - 1, 0);
	close_range(fd + 1, ~0u, 0);
	fcntl(keep, F_SETFD, FD_CLOEXEC);
}

} // namespace seal::cli
