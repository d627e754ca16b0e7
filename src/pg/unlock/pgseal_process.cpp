#include "pgseal_process.hpp"

#include "../guc.hpp"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace seal::pg {

namespace {

constexpr int kSpareDescriptor = 16; // above every target

// Between fork and exec: system calls only, no allocation, no PostgreSQL code.
[[noreturn]] void become_pgseal(const char* path, const char* const arguments[], const ChildFiles& files,
                                pid_t parent) noexcept
{
	constexpr int kFailed = 127;
	for (int number = 1; number < NSIG; number++)
		if (number != SIGKILL && number != SIGSTOP)
			::signal(number, SIG_DFL);
	setsid();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(kFailed); // the parent died before prctl: nobody would end this child

	const int null = open("/dev/null", O_RDWR);
	const int sources[] = {files.input < 0 ? null : files.input, files.output < 0 ? null : files.output, files.error,
	                       files.extra};
	int high[4];
	for (int i = 0; i < 4; i++) { // out of the way first: a source may be another's target
		high[i] = sources[i] < 0 ? -1 : fcntl(sources[i], F_DUPFD, kSpareDescriptor);
		if (sources[i] >= 0 && high[i] < 0)
			_exit(kFailed);
	}
	for (int i = 0; i < 4; i++)
		if (high[i] >= 0 && dup2(high[i], i) < 0)
			_exit(kFailed);
	closefrom(files.extra < 0 ? 3 : 4);

	const rlimit no_core = {0, 0};
	setrlimit(RLIMIT_CORE, &no_core);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, nullptr);
	execv(path, const_cast<char* const*>(arguments));
	_exit(kFailed);
}

} // namespace

std::string pgseal_path()
{
	if (guc_pgseal_path && guc_pgseal_path[0] != '\0')
		return guc_pgseal_path;
	const std::string server = my_exec_path;
	const std::size_t slash = server.rfind('/');
	return (slash == std::string::npos ? "." : server.substr(0, slash)) + "/pgseal";
}

pid_t spawn_pgseal(const std::string& path, const char* const arguments[], const ChildFiles& files) noexcept
{
	if (access(path.c_str(), X_OK) != 0)
		return -1;
	// All signals stay blocked until the child has no handler of the server any more.
	sigset_t all, saved;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &saved);
	const pid_t parent = getpid();
	const pid_t pid = fork();
	if (pid == 0)
		become_pgseal(path.c_str(), arguments, files, parent);
	const int error = errno;
	sigprocmask(SIG_SETMASK, &saved, nullptr);
	errno = error;
	return pid;
}

void kill_pgseal(pid_t pid, int signal) noexcept
{
	// Until the child has called setsid() there is no such group.
	if (kill(-pid, signal) != 0)
		kill(pid, signal);
}

bool reap_pgseal(pid_t pid, int wait_ms, int* status) noexcept
{
	for (int waited = 0;; waited++) {
		const pid_t ended = waitpid(pid, status, WNOHANG);
		if (ended == pid)
			return true;
		if (ended < 0 && errno != EINTR) {
			*status = 0;
			return true; // not ours any more
		}
		if (waited >= wait_ms)
			return false;
		usleep(1000);
	}
}

std::string describe_exit(int status)
{
	if (WIFSIGNALED(status))
		return "signal " + std::to_string(WTERMSIG(status)) + " (" + strsignal(WTERMSIG(status)) + ")";
	return "exit code " + std::to_string(WEXITSTATUS(status));
}

} // namespace seal::pg
