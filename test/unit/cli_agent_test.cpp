// `pgseal agent`, run as the server runs it: over a socket pair, several at once, killed and left alone.
#include "agent_process.hpp"
#include "softhsm_token.hpp"

#include "seal/agent_protocol.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

namespace seal {
namespace {

using test::SoftHsm;

using test::AgentProcess;
using test::request;
using test::soon;

class CliAgent : public testing::Test {
protected:
	CliAgent() { hsm_.add_token("seal"); }
	SoftHsm hsm_;
};

TEST_F(CliAgent, answers_every_operation)
{
	AgentProcess agent;
	EXPECT_FALSE(agent.call(request(AgentOp::ping, "")).error);
	const std::string config = hsm_.config("seal");
	const AgentReply check = agent.call(request(AgentOp::check, config));
	ASSERT_EQ(check.endpoints.size(), 1u);
	EXPECT_TRUE(check.endpoints[0].ok) << check.endpoints[0].detail;

	AgentRequest create = request(AgentOp::create_kek, config);
	create.label = "kek";
	const AgentReply created = agent.call(create);
	ASSERT_FALSE(created.error) << created.error->message;
	EXPECT_EQ(agent.call(create).error->code, ErrorCode::already_exists);
	create.allow_same_label = true;
	const AgentReply rotated = agent.call(create);
	ASSERT_FALSE(rotated.error) << rotated.error->message;
	EXPECT_NE(rotated.kek.id_hex, created.kek.id_hex);

	AgentRequest wrap = request(AgentOp::wrap, config);
	wrap.kek = created.kek;
	wrap.aad = {1, 2};
	for (int i = 0; i < 1000; ++i)
		wrap.secrets.push_back(Secret::copy_of(Bytes(32, static_cast<std::uint8_t>(i))));
	AgentReply wrapped = agent.call(wrap);
	ASSERT_FALSE(wrapped.error) << wrapped.error->message;
	ASSERT_EQ(wrapped.blobs.size(), 1000u);

	AgentRequest unwrap = request(AgentOp::unwrap, config);
	unwrap.kek = created.kek;
	unwrap.aad = {1, 2};
	unwrap.blobs = wrapped.blobs;
	const AgentReply unwrapped = agent.call(unwrap);
	ASSERT_FALSE(unwrapped.error) << unwrapped.error->message;
	ASSERT_EQ(unwrapped.secrets.size(), 1000u);
	EXPECT_EQ(unwrapped.secrets[7].reveal(RevealToken{})[31], 7);
	unwrap.aad = {1, 3};
	EXPECT_EQ(agent.call(unwrap).error->code, ErrorCode::authentication_failed);

	AgentRequest adopt = request(AgentOp::adopt_kek, config);
	adopt.label = "none";
	EXPECT_EQ(agent.call(adopt).error->code, ErrorCode::key_missing);
	EXPECT_EQ(agent.call(request(AgentOp::check, "{}")).error->code, ErrorCode::invalid_argument);
	EXPECT_EQ(agent.finish(), 0);
}

TEST_F(CliAgent, goes_when_its_socket_closes_or_carries_nonsense)
{
	AgentProcess idle;
	EXPECT_EQ(idle.finish(), 0);
	AgentProcess confused;
	const std::uint8_t huge[12] = {0xff, 0xff, 0xff, 0xff};
	ASSERT_EQ(write(confused.fd(), huge, sizeof huge), 12);
	EXPECT_EQ(confused.finish(), 1);
	AgentProcess malformed; // a frame whose content does not parse gets an answer
	ASSERT_TRUE(write_frame(malformed.fd(), 5, Bytes{99, 99}, soon()));
	EXPECT_EQ(malformed.receive(5).error->code, ErrorCode::protocol);
	EXPECT_EQ(malformed.finish(), 0);
}

TEST_F(CliAgent, forbids_core_dumps_and_keeps_no_foreign_descriptor)
{
	int foreign[2]; // inherited over exec; only the test and a careless agent hold the writing end
	ASSERT_EQ(pipe(foreign), 0);
	AgentProcess agent;
	agent.call(request(AgentOp::ping, ""));
	std::ifstream limits("/proc/" + std::to_string(agent.pid()) + "/limits");
	std::string text((std::istreambuf_iterator<char>(limits)), {});
	EXPECT_NE(text.find("Max core file size        0                    0"), std::string::npos) << text;
	close(foreign[1]);
	pollfd end = {.fd = foreign[0], .events = POLLIN, .revents = 0};
	EXPECT_EQ(poll(&end, 1, 5000), 1) << "the agent kept a descriptor that is not its own";
	EXPECT_TRUE(end.revents & POLLHUP);
	close(foreign[0]);
}

TEST_F(CliAgent, dies_with_its_parent)
{
	int report[2];
	ASSERT_EQ(pipe(report), 0);
	const pid_t parent = fork();
	if (parent == 0) {
		AgentProcess agent;
		agent.call(request(AgentOp::ping, ""));
		const pid_t pid = agent.pid();
		if (write(report[1], &pid, sizeof pid) != sizeof pid)
			_exit(1);
		raise(SIGKILL);
	}
	close(report[1]);
	pid_t pid = 0;
	ASSERT_EQ(read(report[0], &pid, sizeof pid), static_cast<ssize_t>(sizeof pid));
	close(report[0]);
	waitpid(parent, nullptr, 0);
	bool gone = false;
	for (int i = 0; i < 200 && !gone; ++i) {
		std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
		std::string line;
		gone = !std::getline(stat, line) || line.find(") Z") != std::string::npos;
		usleep(10000);
	}
	EXPECT_TRUE(gone);
}

// SoftHSM rewrites a token's file at each login; a process that initialises at that moment sees no token.
TEST_F(CliAgent, two_processes_may_initialise_at_once)
{
	const std::string config = hsm_.config("seal");
	for (int round = 0; round < 50; ++round) {
		AgentProcess one, two;
		one.send(1, request(AgentOp::check, config));
		two.send(1, request(AgentOp::check, config));
		for (AgentProcess* agent : {&one, &two}) {
			const AgentReply reply = agent->receive(1);
			ASSERT_EQ(reply.endpoints.size(), 1u);
			ASSERT_TRUE(reply.endpoints[0].ok) << "round " << round << ": " << reply.endpoints[0].detail;
		}
	}
}

TEST_F(CliAgent, recovers_when_the_token_comes_back)
{
	AgentProcess agent;
	const std::string config = hsm_.config("seal");
	AgentRequest create = request(AgentOp::create_kek, config);
	create.label = "kek";
	const AgentReply created = agent.call(create);
	ASSERT_FALSE(created.error);
	const std::string tokens = hsm_.directory().file("tokens"), away = hsm_.directory().file("away");
	ASSERT_EQ(rename(tokens.c_str(), away.c_str()), 0);
	const AgentReply lost = agent.call(request(AgentOp::check, hsm_.config("seal", "\"mechanisms\":[\"aes-gcm\"]")));
	(void) lost; // SoftHSM may serve a logged-in process from memory; what matters is that it works afterwards
	ASSERT_EQ(rename(away.c_str(), tokens.c_str()), 0);
	AgentRequest wrap = request(AgentOp::wrap, config);
	wrap.kek = created.kek;
	wrap.secrets.push_back(Secret(32));
	const AgentReply wrapped = agent.call(wrap);
	EXPECT_FALSE(wrapped.error) << wrapped.error->message;
}

} // namespace
} // namespace seal
