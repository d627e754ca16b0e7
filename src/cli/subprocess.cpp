#include "subprocess.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

namespace seal::cli {

namespace {

struct Pipe {
	int ends[2] = {-1, -1};
	bool open() { return pipe2(ends, O_CLOEXEC) == 0; }
	void close_write() { close_end(1); }
	void close_end(int i)
	{
		if (ends[i] >= 0)
			close(ends[i]);
		ends[i] = -1;
	}
	~Pipe()
	{
		close_end(0);
		close_end(1);
	}
};

void drain(Pipe (&pipes)[2], std::string* (&texts)[2])
{
	pollfd waits[2] = {{pipes[0].ends[0], POLLIN, 0}, {pipes[1].ends[0], POLLIN, 0}};
	while (waits[0].fd >= 0 || waits[1].fd >= 0) {
		if (poll(waits, 2, -1) < 0 && errno != EINTR)
			return;
		for (int i = 0; i < 2; ++i) {
			if (waits[i].fd < 0 || waits[i].revents == 0)
				continue;
			char buffer[4096];
			const ssize_t n = read(waits[i].fd, buffer, sizeof buffer);
			if (n > 0)
				texts[i]->append(buffer, static_cast<std::size_t>(n));
			else if (n == 0 || errno != EINTR)
				waits[i].fd = -1;
		}
	}
}

} // namespace

Result<ProgramOutput> run_program(const std::vector<std::string>& argv)
{
	const auto failed = [&](int error) {
		return Error(ErrorCode::io_error, "could not run \"" + argv[0] + "\": " + std::strerror(error));
	};
	Pipe pipes[2];
	posix_spawn_file_actions_t actions;
	if (!pipes[0].open() || !pipes[1].open())
		return failed(errno);
	if (const int rc = posix_spawn_file_actions_init(&actions); rc != 0)
		return failed(rc);
	std::vector<char*> raw;
	for (const std::string& argument : argv)
		raw.push_back(const_cast<char*>(argument.c_str()));
	raw.push_back(nullptr);
	pid_t pid = -1;
	int rc = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	rc = rc ? rc : posix_spawn_file_actions_adddup2(&actions, pipes[0].ends[1], 1);
	rc = rc ? rc : posix_spawn_file_actions_adddup2(&actions, pipes[1].ends[1], 2);
	rc = rc ? rc : posix_spawnp(&pid, raw[0], &actions, nullptr, raw.data(), environ);
	posix_spawn_file_actions_destroy(&actions);
	if (rc != 0)
		return failed(rc);
	pipes[0].close_write();
	pipes[1].close_write();
	ProgramOutput result;
	std::string* texts[2] = {&result.output, &result.errors};
	drain(pipes, texts);
	int status = 0;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return failed(errno);
	result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	return result;
}

} // namespace seal::cli
