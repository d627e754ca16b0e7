// `pgseal agent` as a child of a test, asked over its socket pair as the server asks it.
#pragma once

#include "seal/agent_protocol.hpp"

#include <gtest/gtest.h>

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace seal::test {

inline constexpr char kPgseal[] = SEAL_BINARY_DIR "/pgseal";

inline Deadline soon() { return std::chrono::steady_clock::now() + std::chrono::seconds(30); }

class AgentProcess {
public:
	AgentProcess()
	{
		int ends[2];
		EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
		pid_ = fork();
		if (pid_ == 0) {
			close(ends[0]);
			const std::string number = std::to_string(ends[1]);
			execl(kPgseal, kPgseal, "agent", "--fd", number.c_str(), nullptr);
			_exit(127);
		}
		close(ends[1]);
		fd_ = ends[0];
	}
	AgentProcess(const AgentProcess&) = delete;
	AgentProcess& operator=(const AgentProcess&) = delete;
	~AgentProcess() { finish(); }

	void send(std::uint64_t id, const AgentRequest& request)
	{
		EXPECT_TRUE(write_frame(fd_, id, request.encode(), soon()));
	}
	AgentReply receive(std::uint64_t id)
	{
		Result<std::pair<std::uint64_t, Bytes>> frame = read_frame(fd_, soon());
		EXPECT_TRUE(frame) << (frame ? "" : frame.error().message);
		if (!frame)
			return {};
		EXPECT_EQ(frame->first, id);
		Result<AgentReply> reply = AgentReply::decode(frame->second);
		EXPECT_TRUE(reply);
		return reply ? std::move(*reply) : AgentReply{};
	}
	AgentReply call(const AgentRequest& request)
	{
		send(++last_id_, request);
		return receive(last_id_);
	}
	int finish() // closes our end; the exit code
	{
		if (fd_ >= 0)
			close(fd_);
		fd_ = -1;
		int status = 0;
		if (pid_ > 0)
			waitpid(pid_, &status, 0);
		pid_ = -1;
		return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	}
	int fd() const { return fd_; }
	pid_t pid() const { return pid_; }

private:
	pid_t pid_ = -1;
	int fd_ = -1;
	std::uint64_t last_id_ = 0;
};

inline AgentRequest request(AgentOp op, const std::string& config)
{
	AgentRequest r;
	r.op = op;
	r.provider_name = "hsm";
	r.provider_kind = "pkcs11";
	r.provider_config = config;
	r.timeout_ms = 10000;
	return r;
}

} // namespace seal::test
