#include "preload.hpp"

#include "stock_tool.hpp"
#include "subprocess.hpp"

#include "seal/wal_parcel.hpp"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

namespace seal::cli {

namespace fs = std::filesystem;

namespace {

constexpr char kLibrary[] = "libseal_preload.so";
constexpr char kPreloadVariable[] = "LD_PRELOAD";
constexpr int kProbeTimeoutMs = 20000;
constexpr int kForwarded[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

volatile std::sig_atomic_t tool_pid; // of the tool that is waited for; 0: none

void forward_signal(int signal)
{
	if (tool_pid > 0)
		kill(static_cast<pid_t>(tool_pid), signal);
}

std::string preload_list(const std::string& library)
{
	const char* before = std::getenv(kPreloadVariable);
	return before && *before ? library + ":" + before : library;
}

std::vector<char*> pointers(std::vector<std::string>& words)
{
	std::vector<char*> list;
	for (std::string& word : words)
		list.push_back(word.data());
	list.push_back(nullptr);
	return list;
}

std::vector<std::string> environment_with(const std::vector<std::pair<std::string, std::string>>& set)
{
	std::vector<std::string> result;
	for (char** entry = environ; *entry; ++entry) {
		const std::string text = *entry;
		bool replaced = false;
		for (const auto& [name, value] : set)
			replaced = replaced || text.rfind(name + "=", 0) == 0;
		if (!replaced)
			result.push_back(text);
	}
	for (const auto& [name, value] : set)
		result.push_back(name + "=" + value);
	return result;
}

std::string read_answer(int fd)
{
	std::string answer;
	char buffer[64];
	pollfd wait = {fd, POLLIN, 0};
	while (poll(&wait, 1, kProbeTimeoutMs) > 0) {
		const ssize_t n = read(fd, buffer, sizeof buffer);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		answer.append(buffer, static_cast<std::size_t>(n));
	}
	return answer;
}

} // namespace

Result<std::string> find_preload_library()
{
	const fs::path here = own_directory();
	std::string tried;
	std::vector<fs::path> places = {here / kLibrary, here / ".." / "lib" / kLibrary};
	Result<ProgramOutput> asked = run_program({(here / "pg_config").string(), "--pkglibdir"});
	if (asked && asked->exit_code == 0)
		places.push_back(fs::path(asked->output.substr(0, asked->output.find('\n'))) / kLibrary);
	for (const fs::path& place : places) {
		std::error_code ignored;
		if (!fs::exists(place, ignored)) {
			tried += (tried.empty() ? "" : ", ") + place.lexically_normal().string();
			continue;
		}
		const std::string path = fs::canonical(place, ignored).string();
		if (path.find_first_of(": ") != std::string::npos)
			return Error(ErrorCode::unsupported,
			             "the path \"" + path + "\" has a space or a colon, which LD_PRELOAD cannot carry");
		return path;
	}
	return Error(ErrorCode::not_found, "the preload library is not there (" + tried + ")",
	             "Install pg_seal for this server (make install).");
}

Status probe_preload(const std::string& program, const std::string& library)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) != 0)
		return Error(ErrorCode::io_error, std::string("could not make a pipe: ") + std::strerror(errno));
	fcntl(ends[1], F_SETFD, 0);
	std::vector<std::string> words = {program, "--version"};
	std::vector<std::string> variables =
		environment_with({{kPreloadVariable, preload_list(library)}, {kParcelProbeVariable, std::to_string(ends[1])}});
	posix_spawn_file_actions_t actions;
	pid_t pid = -1;
	int rc = posix_spawn_file_actions_init(&actions);
	if (rc == 0) {
		rc = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
		rc = rc ? rc : posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
		rc = rc ? rc : posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
		rc = rc ? rc
		        : posix_spawn(&pid, program.c_str(), &actions, nullptr, pointers(words).data(),
		                      pointers(variables).data());
		posix_spawn_file_actions_destroy(&actions);
	}
	close(ends[1]);
	const std::string answer = rc == 0 ? read_answer(ends[0]) : "";
	close(ends[0]);
	if (rc != 0)
		return Error(ErrorCode::io_error, "could not run \"" + program + "\": " + std::strerror(rc));
	int status = 0;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
	if (answer != kParcelProbeAnswer)
		return Error(ErrorCode::unsupported, "\"" + library + "\" could not be loaded into \"" + program + "\"",
		             "Install pgseal and the library from one build, for this machine's architecture.");
	return ok_status();
}

Error become_tool(const std::string& program, const std::vector<std::string>& arguments, const std::string& library,
                  int parcel)
{
	std::vector<std::string> words = {program};
	words.insert(words.end(), arguments.begin(), arguments.end());
	std::vector<std::pair<std::string, std::string>> set;
	if (parcel >= 0) {
		fcntl(parcel, F_SETFD, 0);
		set = {{kPreloadVariable, preload_list(library)}, {kParcelVariable, std::to_string(parcel)}};
	}
	std::vector<std::string> variables = environment_with(set);
	execve(program.c_str(), pointers(words).data(), pointers(variables).data());
	return {ErrorCode::io_error, "could not run \"" + program + "\": " + std::strerror(errno)};
}

Result<int> run_tool(const std::string& program, const std::vector<std::string>& arguments, const std::string& library,
                     int parcel)
{
	tool_pid = 0;
	for (int signal : kForwarded)
		std::signal(signal, forward_signal);
	const pid_t pid = fork();
	if (pid < 0)
		return Error(ErrorCode::io_error, std::string("could not fork: ") + std::strerror(errno));
	if (pid == 0) {
		for (int signal : kForwarded)
			std::signal(signal, SIG_DFL);
		const Error error = become_tool(program, arguments, library, parcel);
		std::fprintf(stderr, "pgseal: %s\n", error.message.c_str());
		_exit(127);
	}
	tool_pid = pid;
	int status = 0;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return Error(ErrorCode::io_error, std::string("could not wait for the tool: ") + std::strerror(errno));
	tool_pid = 0;
	for (int signal : kForwarded)
		std::signal(signal, SIG_DFL);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

} // namespace seal::cli
