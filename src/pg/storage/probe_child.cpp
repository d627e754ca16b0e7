#include "probe_child.hpp"

#include "../pg.hpp"

extern "C" {
#include "storage/ipc.h"
}

#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <sys/wait.h>
#include <unistd.h>

namespace seal::pg {

namespace {

[[noreturn]] void run_and_exit(int (*probe)()) noexcept
{
	sigjmp_buf failed;
	on_exit_reset(); // the postmaster's exit callbacks remove its lock files
	if (sigsetjmp(failed, 0) != 0)
		_exit(126);
	PG_exception_stack = &failed;
	_exit(probe());
}

} // namespace

int run_probe_in_child(const char* what, int (*probe)())
{
	sigset_t all, saved;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &saved); // the postmaster's reaper must not take the child for one of the server's
	fflush(nullptr);
	const pid_t pid = fork();
	if (pid == 0)
		run_and_exit(probe);
	int status = 0;
	pid_t ended = pid;
	while (pid > 0 && (ended = waitpid(pid, &status, 0)) < 0 && errno == EINTR) {}
	const int saved_errno = errno;
	sigprocmask(SIG_SETMASK, &saved, nullptr);
	errno = saved_errno;
	if (pid < 0 || ended != pid)
		ereport(FATAL, (errmsg("pg_seal could not run the probe of the server's %s: %m", what)));
	return status;
}

} // namespace seal::pg
