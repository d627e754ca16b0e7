// Tokens that do not keep their promises, made by faulty_module.c in front of SoftHSM. Each in an agent of its own: a
// process has one instance of a module.
#include "agent_process.hpp"
#include "softhsm_token.hpp"

#include "seal/crypto.hpp"

#include <gtest/gtest.h>

namespace seal {
namespace {

using test::AgentProcess;
using test::request;
using test::SoftHsm;

class Pkcs11Faults : public testing::Test {
protected:
	Pkcs11Faults()
	{
		hsm_.add_token("seal");
		std::vector<std::string> argv = {"gcc",
		                                 "-shared",
		                                 "-fPIC",
		                                 "-I/usr/include/p11-kit-1",
		                                 "-o",
		                                 module_,
		                                 std::string(SEAL_SOURCE_DIR) + "/test/unit/faulty_module.c"};
		const test::CommandResult built = test::run(argv);
		EXPECT_EQ(built.exit_code, 0) << built.errors << " (apt-get install gcc libp11-kit-dev)";
	}

	std::string config(const std::string& fault) const
	{
		return "{\"module\":\"" + module_ + "\",\"token\":\"seal\",\"pin_file\":\"" + hsm_.pin_file() +
		       "\",\"environment\":{\"SOFTHSM2_CONF\":\"" + hsm_.directory().file("softhsm2.conf") +
		       "\",\"FAULTY\":\"" + fault + "\",\"FAULTY_BEHIND\":\"" + test::kSoftHsmModule + "\"}}";
	}
	static AgentReply create(AgentProcess& agent, const std::string& config, const std::string& label = "kek")
	{
		AgentRequest r = request(AgentOp::create_kek, config);
		r.label = label;
		return agent.call(r);
	}
	static AgentReply wrap(AgentProcess& agent, const std::string& config, const KekRef& kek)
	{
		AgentRequest r = request(AgentOp::wrap, config);
		r.kek = kek;
		r.secrets.push_back(Secret::copy_of(Bytes(32, 7)));
		return agent.call(r);
	}
	static AgentReply unwrap(AgentProcess& agent, const std::string& config, const KekRef& kek,
	                         const std::vector<WrappedBlob>& blobs)
	{
		AgentRequest r = request(AgentOp::unwrap, config);
		r.kek = kek;
		r.blobs = blobs;
		return agent.call(r);
	}
	std::string objects() const { return hsm_.pkcs11_tool("seal", {"--list-objects", "--type", "secrkey"}).output; }

	SoftHsm hsm_;
	const std::string module_ = hsm_.directory().file("faulty.so");
};

TEST_F(Pkcs11Faults, without_a_fault_it_works)
{
	AgentProcess agent;
	const AgentReply kek = create(agent, config(""));
	ASSERT_FALSE(kek.error) << kek.error->message;
	const AgentReply wrapped = wrap(agent, config(""), kek.kek);
	ASSERT_FALSE(wrapped.error) << wrapped.error->message;
	EXPECT_FALSE(unwrap(agent, config(""), kek.kek, wrapped.blobs).error);
}

TEST_F(Pkcs11Faults, a_kek_that_could_leave_the_token_or_do_more_is_destroyed_and_refused)
{
	for (const char* fault : {"extractable", "other_usage"}) {
		AgentProcess agent;
		const AgentReply kek = create(agent, config(fault));
		ASSERT_TRUE(kek.error) << fault;
		EXPECT_EQ(kek.error->code, ErrorCode::key_unfit) << kek.error->message;
		EXPECT_NE(kek.error->message.find("it was destroyed"), std::string::npos) << kek.error->message;
		EXPECT_EQ(objects().find("kek"), std::string::npos) << objects();
	}
}

TEST_F(Pkcs11Faults, an_iv_that_the_token_chose_is_the_one_that_is_kept)
{
	AgentProcess agent;
	const AgentReply kek = create(agent, config("own_iv"));
	ASSERT_FALSE(kek.error) << kek.error->message;
	const AgentReply wrapped = wrap(agent, config("own_iv"), kek.kek);
	ASSERT_FALSE(wrapped.error) << wrapped.error->message;
	EXPECT_EQ(std::string(wrapped.blobs[0].iv.begin(), wrapped.blobs[0].iv.end()), "token's iv!!");
	EXPECT_FALSE(unwrap(agent, config("own_iv"), kek.kek, wrapped.blobs).error);
}

TEST_F(Pkcs11Faults, a_mechanism_that_fails_its_trial_or_lets_altered_bytes_pass_is_passed_over)
{
	for (const char* fault : {"no_gcm", "accept_all"}) {
		AgentProcess agent;
		const AgentReply kek = create(agent, config(fault), fault);
		ASSERT_FALSE(kek.error) << kek.error->message;
		EXPECT_EQ(kek.kek.mechanism, WrapMechanism::pkcs11_aes_kw) << fault;
		const std::string listing = objects();
		EXPECT_EQ(listing.find("encrypt, decrypt"), std::string::npos)
			<< "the first attempt's key is gone: " << listing;
	}
}

TEST_F(Pkcs11Faults, the_last_attempt_at_a_pin_is_not_used_up)
{
	AgentProcess agent;
	const AgentReply kek = create(agent, config("final_try"));
	ASSERT_TRUE(kek.error);
	EXPECT_EQ(kek.error->code, ErrorCode::pin_incorrect);
	EXPECT_NE(kek.error->message.find("one attempt left"), std::string::npos) << kek.error->message;
}

TEST_F(Pkcs11Faults, a_lost_session_is_opened_again_unnoticed)
{
	AgentProcess agent;
	const AgentReply kek = create(agent, config("lose_session"));
	ASSERT_FALSE(kek.error) << kek.error->message;
	for (int i = 0; i < 4; ++i) {
		const AgentReply wrapped = wrap(agent, config("lose_session"), kek.kek);
		EXPECT_FALSE(wrapped.error) << i << ": " << wrapped.error->message;
	}
}

TEST_F(Pkcs11Faults, an_unexplained_failure_is_reported_and_the_next_call_works)
{
	AgentProcess agent;
	const AgentReply kek = create(agent, config("general_error"));
	ASSERT_FALSE(kek.error) << kek.error->message;
	int failures = 0;
	for (int i = 0; i < 4; ++i) {
		const AgentReply wrapped = wrap(agent, config("general_error"), kek.kek);
		if (wrapped.error) {
			++failures;
			EXPECT_EQ(wrapped.error->code, ErrorCode::provider_unreachable);
			EXPECT_NE(wrapped.error->message.find("C_Encrypt failed in token 'seal'"), std::string::npos)
				<< wrapped.error->message;
		}
	}
	EXPECT_EQ(failures, 1);
}

} // namespace
} // namespace seal
