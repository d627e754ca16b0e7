#include "pkcs11_pin.hpp"

#include "seal/crypto.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <set>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

namespace seal::pkcs11 {

namespace {

struct Descriptor {
	int fd = -1;
	explicit Descriptor(int f) noexcept : fd(f) {}
	Descriptor(const Descriptor&) = delete;
	Descriptor& operator=(const Descriptor&) = delete;
	~Descriptor()
	{
		if (fd >= 0)
			close(fd);
	}
};

int left_ms(Deadline deadline)
{
	const auto left =
		std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
	return left <= 0 ? 0 : static_cast<int>(std::min<long long>(left, 1 << 20));
}

// Up to kMaxPinSize bytes before the first newline (or the end) of what is in the buffer.
Result<Secret> first_line(const Secret& buffer, std::size_t size, const std::string& source)
{
	const ByteView bytes = buffer.reveal(RevealToken{}).subspan(0, size);
	std::size_t length = 0;
	while (length < bytes.size() && bytes[length] != '\n' && bytes[length] != '\0')
		++length;
	if (length > 0 && bytes[length - 1] == '\r')
		--length;
	if (length == 0)
		return Error(ErrorCode::invalid_argument, source + " gives an empty PIN");
	if (length > kMaxPinSize)
		return Error(ErrorCode::invalid_argument, source + " gives a PIN that is too long");
	return Secret::copy_of(bytes.subspan(0, length));
}

Result<Pin> read_file(const std::string& path)
{
	const std::string source = "pin file \"" + path + "\"";
	Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
	if (file.fd < 0)
		return Error(ErrorCode::io_error, "could not open " + source + ": " + std::strerror(errno),
		             "Create it, readable by the server's operating system user alone, with the PIN as its only line.");
	struct stat st;
	if (fstat(file.fd, &st) != 0)
		return Error(ErrorCode::io_error, "could not examine " + source + ": " + std::strerror(errno));
	if (!S_ISREG(st.st_mode))
		return Error(ErrorCode::invalid_argument, source + " is not a regular file");
	if ((st.st_mode & 0027) != 0) // beyond rw-r-----
		return Error(ErrorCode::invalid_argument, source + " has permissions that are too open",
		             "Set them to 0600, or to 0640 when a group must read it.");
	Secret buffer(kMaxPinSize + 3);
	std::size_t size = 0;
	while (size < buffer.size()) {
		const ssize_t n = read(file.fd, buffer.reveal_mutable(RevealToken{}).data() + size, buffer.size() - size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return Error(ErrorCode::io_error, "could not read " + source + ": " + std::strerror(errno));
		if (n == 0)
			break;
		size += static_cast<std::size_t>(n);
	}
	Result<Secret> pin = first_line(buffer, size, source);
	if (!pin)
		return pin.error();
	return Pin{std::move(*pin), (st.st_mode & 0040) != 0 ? source + " is readable by its group" : ""};
}

// The command's own error output is discarded: what a careless script prints there would end in the server's log.
Result<pid_t> spawn_shell(const std::string& command, int output)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	if (posix_spawn_file_actions_init(&actions) != 0)
		return Error(ErrorCode::io_error, "could not prepare the pin command");
	if (posix_spawnattr_init(&attributes) != 0) {
		posix_spawn_file_actions_destroy(&actions);
		return Error(ErrorCode::io_error, "could not prepare the pin command");
	}
	sigset_t none, usual;
	sigemptyset(&none);
	sigemptyset(&usual);
	sigaddset(&usual, SIGPIPE); // this process ignores it, a script relies on it
	const char* argv[] = {"/bin/sh", "-c", command.c_str(), nullptr};
	pid_t pid = -1;
	int rc = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	rc = rc ? rc : posix_spawn_file_actions_adddup2(&actions, output, 1);
	rc = rc ? rc : posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	rc = rc ? rc : posix_spawnattr_setpgroup(&attributes, 0);
	rc = rc ? rc : posix_spawnattr_setsigmask(&attributes, &none);
	rc = rc ? rc : posix_spawnattr_setsigdefault(&attributes, &usual);
	rc = rc ? rc
	        : posix_spawnattr_setflags(&attributes,
	                                   POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	rc = rc ? rc : posix_spawn(&pid, argv[0], &actions, &attributes, const_cast<char**>(argv), environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	if (rc != 0)
		return Error(ErrorCode::io_error, std::string("could not start the pin command: ") + std::strerror(rc));
	return pid;
}

void end_group(pid_t pid)
{
	kill(-pid, SIGKILL);
	while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {}
}

// Waits for the end of the process within the deadline; the status, or -1 when the time is up.
int reap(pid_t pid, Deadline deadline)
{
	for (;;) {
		int status = 0;
		const pid_t got = waitpid(pid, &status, WNOHANG);
		if (got == pid)
			return status;
		if ((got < 0 && errno != EINTR) || left_ms(deadline) == 0)
			return -1;
		poll(nullptr, 0, 5);
	}
}

Result<Pin> run_command(const std::string& command, Deadline deadline)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) != 0)
		return Error(ErrorCode::io_error,
		             std::string("could not make a pipe for the pin command: ") + std::strerror(errno));
	Descriptor in(ends[0]);
	Result<pid_t> pid = [&] {
		Descriptor out(ends[1]);
		return spawn_shell(command, out.fd);
	}();
	if (!pid)
		return pid.error();
	const Error late(ErrorCode::timeout, "the pin command did not finish in time",
	                 "Run it by hand as the server's operating system user.");
	Secret buffer(4096);
	std::size_t size = 0;
	while (size < buffer.size()) {
		pollfd wait = {in.fd, POLLIN, 0};
		const int ready = poll(&wait, 1, left_ms(deadline));
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0) {
			end_group(*pid);
			return late;
		}
		const ssize_t n = read(in.fd, buffer.reveal_mutable(RevealToken{}).data() + size, buffer.size() - size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		size += static_cast<std::size_t>(n);
	}
	const int status = reap(*pid, deadline);
	if (status == -1) {
		end_group(*pid);
		return late;
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return Error(ErrorCode::io_error,
		             WIFEXITED(status) ? "the pin command failed with exit code " + std::to_string(WEXITSTATUS(status))
		                               : "the pin command was ended by signal " + std::to_string(WTERMSIG(status)),
		             "Run it by hand as the server's operating system user.");
	Result<Secret> pin = first_line(buffer, size, "the pin command");
	if (!pin)
		return pin.error();
	return Pin{std::move(*pin), ""};
}

std::set<PinDigest>& rejected_pins()
{
	static auto* set = new std::set<PinDigest>; // never destroyed: the process may exit from anywhere
	return *set;
}

} // namespace

Result<Pin> read_pin(const PinSource& source, Deadline deadline)
{
	return source.command.empty() ? read_file(source.file) : run_command(source.command, deadline);
}

bool pin_digest(const std::string& module_path, const std::string& serial, const Secret& pin, PinDigest& out)
{
	static std::uint8_t process_key[32];
	static const bool ready = random_private_bytes(process_key);
	if (!ready)
		return false;
	const ByteView bytes = pin.reveal(RevealToken{});
	Secret message(module_path.size() + serial.size() + bytes.size() + 2);
	std::uint8_t* p =
		message.reveal_mutable(RevealToken{}).data(); // module, 0, serial, 0, PIN: the first two hold no zero byte
	std::memcpy(p, module_path.data(), module_path.size());
	p += module_path.size() + 1;
	std::memcpy(p, serial.data(), serial.size());
	p += serial.size() + 1;
	std::copy(bytes.begin(), bytes.end(), p); // may be empty: a token without a PIN
	return hmac_sha256(process_key, message.reveal(RevealToken{}), out.data());
}

void remember_rejected_pin(const PinDigest& digest) { rejected_pins().insert(digest); }

bool pin_was_rejected(const PinDigest& digest) { return rejected_pins().count(digest) != 0; }

} // namespace seal::pkcs11
