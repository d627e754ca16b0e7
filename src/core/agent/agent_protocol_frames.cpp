// Frames on a descriptor: blocking sockets and pipes, every wait bounded by the deadline.
#include "seal/agent_protocol.hpp"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace seal {

namespace {

constexpr std::size_t kHeaderSize = 12; // length, request id

Error system_error(const char* what, int error)
{
	char text[128];
	return {ErrorCode::io_error, std::string(what) + ": " + strerror_r(error, text, sizeof text)};
}

Status wait_for(int fd, short events, Deadline deadline)
{
	for (;;) {
		const auto left =
			std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
		if (left <= 0)
			return Error{ErrorCode::timeout, "the deadline passed while exchanging a message with the key agent"};
		pollfd p{fd, events, 0};
		const int n = poll(&p, 1, static_cast<int>(std::min<long long>(left, INT_MAX)));
		if (n > 0)
			return ok_status(); // ready, closed or broken: the call that follows tells which
		if (n < 0 && errno != EINTR)
			return system_error("could not wait for the key agent's channel", errno);
	}
}

// Never blocks once poll() has said yes: sockets are asked not to, a pipe that is ready takes PIPE_BUF bytes at once.
ssize_t write_some(int fd, ByteView data)
{
	const ssize_t n = send(fd, data.data(), data.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n >= 0 || errno != ENOTSOCK)
		return n;
	return write(fd, data.data(), std::min<std::size_t>(data.size(), PIPE_BUF));
}

bool transient(int error) { return error == EINTR || error == EAGAIN || error == EWOULDBLOCK; }

Status write_all(int fd, ByteView data, Deadline deadline)
{
	while (!data.empty()) {
		if (Status s = wait_for(fd, POLLOUT, deadline); !s)
			return s;
		const ssize_t n = write_some(fd, data);
		if (n < 0 && !transient(errno))
			return system_error("could not write to the key agent's channel", errno);
		if (n > 0)
			data = data.subspan(static_cast<std::size_t>(n));
	}
	return ok_status();
}

Status read_all(int fd, MutableBytes data, Deadline deadline)
{
	while (!data.empty()) {
		if (Status s = wait_for(fd, POLLIN, deadline); !s)
			return s;
		const ssize_t n = read(fd, data.data(), data.size());
		if (n == 0)
			return Error{ErrorCode::io_error, "the key agent's channel was closed"};
		if (n < 0 && !transient(errno))
			return system_error("could not read from the key agent's channel", errno);
		if (n > 0)
			data = data.subspan(static_cast<std::size_t>(n));
	}
	return ok_status();
}

} // namespace

Status write_frame(int fd, std::uint64_t id, ByteView payload, Deadline deadline)
{
	// `length` counts what follows it: the id and the payload.
	if (payload.size() > kMaxFrame - sizeof id)
		return Error{ErrorCode::protocol, "a message for the key agent is too large"};
	Writer header;
	header.u32(static_cast<std::uint32_t>(sizeof id + payload.size()));
	header.u64(id);
	if (Status s = write_all(fd, header.message(), deadline); !s)
		return s;
	return write_all(fd, payload, deadline);
}

Result<std::pair<std::uint64_t, Bytes>> read_frame(int fd, Deadline deadline)
{
	std::uint8_t header[kHeaderSize];
	if (Status s = read_all(fd, header, deadline); !s)
		return std::move(s.error());
	Reader r(header);
	const std::uint32_t length = r.u32();
	const std::uint64_t id = r.u64();
	if (length < sizeof id || length > kMaxFrame)
		return Error{ErrorCode::protocol, "a message on the key agent's channel has an impossible length"};
	Bytes payload(length - sizeof id);
	if (Status s = read_all(fd, payload, deadline); !s) {
		wipe_message(payload);
		return std::move(s.error());
	}
	return std::pair<std::uint64_t, Bytes>{id, std::move(payload)};
}

} // namespace seal
