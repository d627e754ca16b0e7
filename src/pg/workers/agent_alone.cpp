#include "agent_alone.hpp"

#include "agent_worker_connection.hpp"
#include "agent_worker_deks.hpp"

#include "../agent_client/agent_slots.hpp"

namespace seal::pg {

namespace {

constexpr int kMaxRounds = 10000; // of 250 keys each: more than fit into any vault

class SynchronousJobs final : public AgentJobs {
public:
	explicit SynchronousJobs(AgentConnection& agent) : agent_(agent) {}

	void submit(const AgentRequest& request, JobDone done) override
	{
		submitted_++;
		done(exchange(request));
	}
	bool any_since_last_asked() noexcept
	{
		const bool any = submitted_ > 0;
		submitted_ = 0;
		return any;
	}

private:
	Result<AgentReply> exchange(const AgentRequest& request)
	{
		const Deadline deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(request.timeout_ms);
		Bytes message = request.encode();
		const Status sent = write_frame(agent_.socket(), ++id_, message, deadline);
		wipe_message(message);
		if (!sent)
			return sent.error();
		Result<std::pair<std::uint64_t, Bytes>> frame = read_frame(agent_.socket(), deadline);
		if (!frame)
			return frame.error();
		Result<AgentReply> reply = AgentReply::decode(frame->second);
		wipe_message(frame->second);
		if (reply && reply->error)
			return std::move(*reply->error);
		return reply;
	}

	AgentConnection& agent_;
	std::uint64_t id_ = 0;
	int submitted_ = 0;
};

} // namespace

void load_hsm_keys_alone()
{
	RegistryCopy registry;
	registry.refresh();
	AgentConnection agent;
	SynchronousJobs jobs(agent);
	Gates gates;
	KeyLoader keys(jobs, registry, gates);
	DekLoader deks(jobs, registry, keys);
	if (!keys.any_hsm())
		return;
	std::string why_not;
	if (!agent.start(why_not)) {
		ereport(WARNING, (errmsg("pg_seal agent: %s", why_not.c_str())));
		return;
	}
	for (int round = 0; round < kMaxRounds; round++) {
		keys.tick(monotonic_us());
		deks.tick(monotonic_us());
		if (!jobs.any_since_last_asked())
			break;
	}
	agent.stop(500);
}

} // namespace seal::pg
