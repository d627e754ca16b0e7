// One running `pgseal agent`: the child process, the socket pair to it, and the frames on their way.
// Never blocks; the owner's event loop says when there is something to read or write.
#pragma once

#include "../pg.hpp"

#include "seal/agent_protocol.hpp"

#include <deque>
#include <string>

namespace seal::pg {

class AgentConnection {
public:
	AgentConnection();
	AgentConnection(const AgentConnection&) = delete;
	~AgentConnection();

	bool start(std::string& why_not);
	bool running() const noexcept { return pid_ > 0; }
	pid_t pid() const noexcept { return pid_; }
	int socket() const noexcept { return socket_; }
	bool has_output() const noexcept { return !output_.empty(); }

	void send(std::uint64_t id, ByteView payload);
	// Writes and reads what goes without waiting. False: the connection is broken (the agent ended, or its frames make no sense).
	bool pump();
	// The next whole frame. `payload` holds secrets: the caller wipes it.
	bool next(std::uint64_t& id, Bytes& payload);

	// Closes the socket, which ends the agent; after `grace_ms` it is killed. Returns how it ended, in words.
	std::string stop(int grace_ms);

private:
	bool write_some();
	bool read_some();
	void reap_leftovers() noexcept;

	pid_t pid_ = -1;
	int socket_ = -1;
	std::deque<Bytes> output_; // whole frames; the first may be partly sent
	std::size_t sent_ = 0;     // of the first
	Bytes input_; // room for one frame of the largest size, had once: growth would leave copies of secrets behind
	std::deque<pid_t> leftovers_; // killed, but still not gone when last asked (a device driver may hold them)
};

} // namespace seal::pg
