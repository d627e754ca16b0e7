#include "agent_worker_connection.hpp"

#include "../unlock/pgseal_process.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <sys/socket.h>
#include <unistd.h>

namespace seal::pg {

namespace {

constexpr std::size_t kLengthSize = 4, kIdSize = 8;

std::uint64_t load_le(const std::uint8_t* bytes, std::size_t size) noexcept
{
	std::uint64_t value = 0;
	for (std::size_t i = size; i-- > 0;)
		value = value << 8 | bytes[i];
	return value;
}

void store_le(std::uint8_t* bytes, std::size_t size, std::uint64_t value) noexcept
{
	for (std::size_t i = 0; i < size; i++, value >>= 8)
		bytes[i] = static_cast<std::uint8_t>(value);
}

} // namespace

AgentConnection::AgentConnection() { input_.reserve(kLengthSize + kIdSize + kMaxFrame); }

AgentConnection::~AgentConnection() { stop(0); }

bool AgentConnection::start(std::string& why_not)
{
	reap_leftovers();
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
		why_not = std::string("could not create a socket pair: ") + strerror(errno);
		return false;
	}
	const std::string path = pgseal_path();
	const char* arguments[] = {"pgseal", "agent", "--fd", "3", nullptr};
	ChildFiles files;
	files.extra = ends[1];
	pid_ = spawn_pgseal(path, arguments, files);
	const int error = errno;
	close(ends[1]);
	if (pid_ < 0) {
		close(ends[0]);
		why_not = "could not execute \"" + path + "\": " + strerror(error);
		return false;
	}
	socket_ = ends[0];
	return true;
}

void AgentConnection::send(std::uint64_t id, ByteView payload)
{
	Bytes frame(kLengthSize + kIdSize + payload.size());
	store_le(frame.data(), kLengthSize, kIdSize + payload.size());
	store_le(frame.data() + kLengthSize, kIdSize, id);
	std::copy(payload.begin(), payload.end(), frame.begin() + kLengthSize + kIdSize);
	output_.push_back(std::move(frame));
}

bool AgentConnection::write_some()
{
	while (!output_.empty()) {
		Bytes& frame = output_.front();
		const ssize_t n = ::send(socket_, frame.data() + sent_, frame.size() - sent_, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK;
		sent_ += static_cast<std::size_t>(n);
		if (sent_ < frame.size())
			continue;
		wipe_message(frame);
		output_.pop_front();
		sent_ = 0;
	}
	return true;
}

bool AgentConnection::read_some()
{
	while (input_.size() < input_.capacity()) {
		const std::size_t held = input_.size();
		input_.resize(std::min(input_.capacity(), held + 65536));
		const ssize_t n = recv(socket_, input_.data() + held, input_.size() - held, MSG_DONTWAIT);
		const int error = errno;
		input_.resize(held + static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
		if (n > 0 || (n < 0 && error == EINTR))
			continue;
		return n < 0 && (error == EAGAIN || error == EWOULDBLOCK);
	}
	return true;
}

bool AgentConnection::pump()
{
	const bool open = write_some() && read_some();
	if (input_.size() >= kLengthSize) {
		const std::uint64_t length = load_le(input_.data(), kLengthSize);
		if (length < kIdSize || length > kMaxFrame)
			return false;
	}
	return open;
}

bool AgentConnection::next(std::uint64_t& id, Bytes& payload)
{
	if (input_.size() < kLengthSize + kIdSize)
		return false;
	const std::uint64_t length = load_le(input_.data(), kLengthSize);
	if (length < kIdSize || length > kMaxFrame || input_.size() < kLengthSize + length)
		return false;
	id = load_le(input_.data() + kLengthSize, kIdSize);
	payload.assign(input_.begin() + kLengthSize + kIdSize,
	               input_.begin() + static_cast<std::ptrdiff_t>(kLengthSize + length));
	const std::size_t used = kLengthSize + length, rest = input_.size() - used;
	std::copy(input_.begin() + static_cast<std::ptrdiff_t>(used), input_.end(), input_.begin());
	wipe(input_.data() + rest, used);
	input_.resize(rest);
	return true;
}

std::string AgentConnection::stop(int grace_ms)
{
	if (pid_ < 0)
		return {};
	close(socket_);
	socket_ = -1;
	for (Bytes& frame : output_)
		wipe_message(frame);
	output_.clear();
	sent_ = 0;
	wipe_message(input_);
	input_.clear();

	int status = 0;
	std::string how;
	if (reap_pgseal(pid_, grace_ms, &status))
		how = describe_exit(status);
	else {
		how = "killed";
		kill_pgseal(pid_, SIGKILL);
		if (!reap_pgseal(pid_, 200, &status))
			leftovers_.push_back(pid_);
	}
	pid_ = -1;
	return how;
}

void AgentConnection::reap_leftovers() noexcept
{
	int status;
	std::erase_if(leftovers_, [&](pid_t pid) { return reap_pgseal(pid, 0, &status); });
}

} // namespace seal::pg
