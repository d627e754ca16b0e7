// The agent worker: a background worker that owns `pgseal agent`, carries the requests of backends to it, and uses it for the
// vault's sake (agent_worker_keys, agent_worker_deks). It runs from the postmaster's start, in recovery too, without a database.
//
// The server must not notice the death of an agent: it is this process's child, reaped here. A request past its deadline is
// answered with a timeout; when the agent has still not moved a second later, a module hangs, and the agent is killed and replaced.
#include "agent_worker_connection.hpp"
#include "agent_worker_deks.hpp"
#include "agent_worker_keys.hpp"
#include "start_audit.hpp"

#include "../agent_client/agent_slots.hpp"
#include "../guard.hpp"
#include "../guc.hpp"

extern "C" {
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"
}

#include <algorithm>
#include <optional>

namespace seal::pg {

namespace {

constexpr std::int64_t kMilli = 1000, kSecond = 1000000;
constexpr std::int64_t kFirstBackoff = 100 * kMilli, kLongestBackoff = 10 * kSecond;
constexpr std::int64_t kHangGrace = kSecond; // after a deadline, before the agent is killed
constexpr std::int64_t kPingDeadline = 5 * kSecond;
constexpr std::int64_t kSteadyAfter = 10 * kSecond; // an agent that ran so long did not fail to start
constexpr std::int64_t kIdleTick = 10 * kSecond;
constexpr int kStopGraceMs = 500;
constexpr std::size_t kMaxJobs = 32; // of the worker's own at once

class AgentWorker final : public AgentJobs {
public:
	AgentWorker() : keys_(*this, registry_, gates_), deks_(*this, registry_, keys_) {}
	void run();
	void submit(const AgentRequest& request, JobDone done) override;

private:
	struct Pending {
		int slot = -1; // of a backend; -1: a job of our own
		JobDone done;
		std::int64_t deadline = 0;
		bool answered = false; // timed out, and its owner told so; the agent may still answer
	};

	void adopt_slots();
	void supervise(std::int64_t now);
	void take_slots(std::int64_t now);
	void send_slot(int number);
	void answer_slot(int number, ByteView reply);
	void fail_slot(int number, Error error);
	void finish(Pending& pending, Result<AgentReply> reply);
	void expire(std::int64_t now);
	void receive();
	void lost(const std::string& why);
	void run_own_jobs(std::int64_t now);
	void wait(std::int64_t now);
	static Error agent_failed();

	AgentConnection agent_;
	RegistryCopy registry_;
	Gates gates_;
	KeyLoader keys_;
	DekLoader deks_;
	std::map<std::uint64_t, Pending> pending_;
	std::uint64_t next_id_ = 1;
	bool up_ = false;         // the agent answered its first ping
	bool not_up_ = false;     // its first answer was an error, or did not come in time: another one must be started
	bool complained_ = false; // its failure is logged; not again before it was up
	int failed_starts_ = 0;
	std::int64_t started_at_ = 0, next_start_ = 0, backoff_ = kFirstBackoff;
	std::array<bool, kAgentSlots> resend_{}, resent_{};
	bool own_jobs_due_ = true;
	std::int64_t next_tick_ = INT64_MAX; // when a closed gate is tried again
	WaitEventSet* events_ = nullptr;
	int events_socket_ = -1, socket_event_ = -1;
};

bool may_repeat(AgentOp op) noexcept { return op != AgentOp::create_kek; }

Error AgentWorker::agent_failed()
{
	return {ErrorCode::provider_unreachable, "the key agent ended while it worked on a request",
	        "It is restarted by itself; repeat the command. If it ends again, the provider's module is at fault: see "
	        "the server log."};
}

// --- slots ---

// After a restart of this worker: what the former one had taken is sent again or failed.
void AgentWorker::adopt_slots()
{
	for (int i = 0; i < kAgentSlots; i++) {
		AgentSlot& slot = agent_slots()[i];
		if (slot.use.load(std::memory_order_acquire) != SlotUse::taken)
			continue;
		if (may_repeat(slot.op))
			resend_[static_cast<std::size_t>(i)] = true;
		else
			fail_slot(i, agent_failed());
	}
}

void AgentWorker::take_slots(std::int64_t now)
{
	for (int i = 0; i < kAgentSlots; i++) {
		AgentSlot& slot = agent_slots()[i];
		SlotUse use = slot.use.load(std::memory_order_acquire);
		if (use == SlotUse::abandoned &&
		    std::none_of(pending_.begin(), pending_.end(), [i](const auto& p) { return p.second.slot == i; })) {
			agent_slot_release(slot);
			continue;
		}
		bool& resend = resend_[static_cast<std::size_t>(i)];
		const bool again = use == SlotUse::taken && resend;
		if (use != SlotUse::ready && !again) {
			resend = resend && use == SlotUse::taken;
			continue;
		}
		const bool hopeless = !up_ && failed_starts_ >= 3;
		if (!up_ && !hopeless && now < slot.deadline_us)
			continue; // the agent is about to run
		if (!again && !slot.use.compare_exchange_strong(use, SlotUse::taken, std::memory_order_acq_rel))
			continue; // its owner gave up
		resend = false;
		if (!again)
			resent_[static_cast<std::size_t>(i)] = false;
		if (hopeless)
			fail_slot(i, {ErrorCode::provider_unreachable, "the key agent does not start",
			              "See the server log for the reason; \"pgseal doctor\" checks the installation."});
		else if (now >= slot.deadline_us)
			fail_slot(i, {ErrorCode::timeout, "the key agent did not answer in time", "Repeat the command."});
		else
			send_slot(i);
	}
}

void AgentWorker::send_slot(int number)
{
	AgentSlot& slot = agent_slots()[number];
	const std::uint64_t id = next_id_++;
	agent_.send(id, {slot.bytes, slot.size});
	Pending& pending = pending_[id];
	pending.slot = number;
	pending.deadline = slot.deadline_us;
}

void AgentWorker::answer_slot(int number, ByteView reply)
{
	AgentSlot& slot = agent_slots()[number];
	memcpy(slot.bytes, reply.data(), reply.size());
	if (reply.size() < slot.size)
		wipe(slot.bytes + reply.size(), slot.size - reply.size());
	slot.size = static_cast<uint32>(reply.size());
	SlotUse expected = SlotUse::taken;
	if (slot.use.compare_exchange_strong(expected, SlotUse::done, std::memory_order_acq_rel))
		SetLatch(&ProcGlobal->allProcs[slot.owner].procLatch);
	else
		agent_slot_release(slot); // abandoned
}

void AgentWorker::fail_slot(int number, Error error)
{
	agent_note_error(error.message.c_str());
	AgentReply reply;
	reply.error = std::move(error);
	answer_slot(number, reply.encode());
}

// --- requests under way ---

void AgentWorker::submit(const AgentRequest& request, JobDone done)
{
	if (!up_ || pending_.size() >= kMaxJobs + kAgentSlots)
		return done(agent_failed());
	const std::uint64_t id = next_id_++;
	Bytes message = request.encode();
	if (message.size() > kMaxFrame - 64) {
		wipe_message(message);
		return done(Error{ErrorCode::invalid_argument, "a request to the key agent is too large"});
	}
	agent_.send(id, message);
	wipe_message(message);
	agent_shared->requests.fetch_add(1, std::memory_order_relaxed);
	Pending& pending = pending_[id];
	pending.done = std::move(done);
	pending.deadline = monotonic_us() + std::int64_t{request.timeout_ms} * kMilli;
}

void AgentWorker::finish(Pending& pending, Result<AgentReply> reply)
{
	if (pending.answered)
		return;
	pending.answered = true;
	if (pending.slot >= 0)
		fail_slot(pending.slot, reply.ok() ? agent_failed() : reply.error());
	else
		pending.done(std::move(reply));
	own_jobs_due_ = true;
}

void AgentWorker::expire(std::int64_t now)
{
	bool hangs = false;
	for (auto& [id, pending] : pending_) {
		if (now >= pending.deadline)
			finish(pending, Error{ErrorCode::timeout, "the provider did not answer in time",
			                      "Check it with seal.check_provider(), or raise pg_seal.provider_timeout."});
		hangs = hangs || now >= pending.deadline + kHangGrace;
	}
	if (hangs || (not_up_ && agent_.running()))
		lost("it did not answer in time");
}

void AgentWorker::receive()
{
	const bool open = agent_.pump();
	std::uint64_t id;
	Bytes payload;
	while (agent_.next(id, payload)) {
		const auto found = pending_.find(id);
		if (found != pending_.end()) {
			Pending pending = std::move(found->second);
			pending_.erase(found);
			if (pending.answered) {
				// Too late: its owner was told so, and the slot may serve another request by now.
			} else if (pending.slot >= 0 && payload.size() <= kAgentSlotBytes)
				answer_slot(pending.slot, payload);
			else if (pending.slot >= 0)
				fail_slot(pending.slot,
				          {ErrorCode::protocol, "the provider's answer is too large", "Use smaller batches."});
			else {
				Result<AgentReply> reply = AgentReply::decode(payload);
				if (reply && reply->error)
					finish(pending, *reply->error);
				else
					finish(pending, std::move(reply));
			}
		}
		wipe_message(payload);
	}
	if (!open)
		lost("");
}

// --- the agent ---

void AgentWorker::supervise(std::int64_t now)
{
	if (agent_.running() || now < next_start_)
		return;
	std::string why_not;
	started_at_ = now;
	if (!agent_.start(why_not)) {
		failed_starts_++;
		next_start_ = now + backoff_;
		backoff_ = std::min(2 * backoff_, kLongestBackoff);
		agent_note_error(why_not.c_str());
		if (!complained_)
			ereport(WARNING, (errmsg("pg_seal agent: %s", why_not.c_str()),
			                  errhint("Install the pgseal command beside the server, or set pg_seal.pgseal_path.")));
		complained_ = true;
		return;
	}
	not_up_ = false;
	agent_shared->agent_pid.store(agent_.pid());
	agent_shared->agent_starts.fetch_add(1);
	keys_.agent_restarted();

	AgentRequest ping;
	const std::uint64_t id = next_id_++;
	agent_.send(id, ping.encode());
	Pending& pending = pending_[id];
	pending.deadline = now + kPingDeadline;
	pending.done = [this](const Result<AgentReply>& reply) {
		not_up_ = !reply;
		if (!reply)
			return;
		up_ = true;
		failed_starts_ = 0;
		agent_shared->agent_answers.store(true);
		ereport(LOG, (errmsg("pg_seal agent: key agent started (PID %d)", static_cast<int>(agent_.pid()))));
		complained_ = false;
	};
}

void AgentWorker::lost(const std::string& why)
{
	const std::int64_t now = monotonic_us();
	const pid_t pid = agent_.pid();
	const std::string how = agent_.stop(why.empty() ? 100 : 0);
	if (!up_)
		failed_starts_++;
	if (now - started_at_ >= kSteadyAfter)
		backoff_ = kFirstBackoff;
	next_start_ = now + backoff_;
	backoff_ = std::min(2 * backoff_, kLongestBackoff);
	const std::string text = why.empty() ? how : how + ": " + why;
	if (!complained_)
		ereport(WARNING, (errmsg("pg_seal agent: key agent (PID %d) ended: %s", static_cast<int>(pid), text.c_str()),
		                  errdetail("It is restarted; the server is not affected.")));
	complained_ = true;
	up_ = false;
	agent_shared->agent_answers.store(false);
	agent_shared->agent_pid.store(0);
	agent_note_error(("key agent ended: " + text).c_str());

	std::map<std::uint64_t, Pending> orphans;
	orphans.swap(pending_);
	for (auto& [id, pending] : orphans) {
		if (pending.answered)
			continue;
		if (pending.slot >= 0) {
			const std::size_t number = static_cast<std::size_t>(pending.slot);
			if (may_repeat(agent_slots()[number].op) && !resent_[number] && now < pending.deadline) {
				resend_[number] = resent_[number] = true;
				continue;
			}
		}
		finish(pending, agent_failed());
	}
}

// --- the loop ---

void AgentWorker::run_own_jobs(std::int64_t now)
{
	if (registry_.refresh()) {
		keys_.registry_changed();
		own_jobs_due_ = true;
	}
	if (agent_shared->keyring_wanted.exchange(false))
		own_jobs_due_ = true;
	// With an 'hsm' keyring every wake-up may mean that its pool runs low.
	if (!up_ || !(own_jobs_due_ || keys_.any_hsm() || now >= next_tick_))
		return;
	own_jobs_due_ = false;
	keys_.tick(now);
	deks_.tick(now);
	next_tick_ = gates_.next_try(now);
}

void AgentWorker::wait(std::int64_t now)
{
	std::int64_t until = now + kIdleTick;
	if (!agent_.running())
		until = std::min(until, next_start_);
	for (const auto& [id, pending] : pending_)
		until = std::min(until, pending.deadline + (pending.answered ? kHangGrace : 0));
	if (up_)
		until = std::min(until, std::max(next_tick_, now));

	// The set is made anew with each agent: there is no taking a socket out of it.
	if (!events_ || events_socket_ != agent_.socket()) {
		if (events_)
			FreeWaitEventSet(events_);
		events_socket_ = agent_.socket();
		pg_call([this] {
			events_ = CreateWaitEventSet(TopMemoryContext, 3);
			AddWaitEventToSet(events_, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, nullptr);
			AddWaitEventToSet(events_, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, nullptr, nullptr);
			if (events_socket_ >= 0)
				socket_event_ = AddWaitEventToSet(events_, WL_SOCKET_READABLE, events_socket_, nullptr, nullptr);
		});
	}
	if (up_ && own_jobs_due_)
		until = now; // a reply came after the jobs' turn
	const long ms =
		static_cast<long>(std::clamp<std::int64_t>((until - now + kMilli - 1) / kMilli, 0, kIdleTick / kMilli));
	const uint32 interest = WL_SOCKET_READABLE | (agent_.has_output() ? WL_SOCKET_WRITEABLE : 0);
	pg_call([&] {
		if (events_socket_ >= 0)
			ModifyWaitEvent(events_, socket_event_, interest, nullptr);
		WaitEvent event;
		(void) WaitEventSetWait(events_, ms, &event, 1, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	});
}

void AgentWorker::run()
{
	adopt_slots();
	while (!ShutdownRequestPending) {
		if (ConfigReloadPending) {
			ConfigReloadPending = false;
			pg_call([] { ProcessConfigFile(PGC_SIGHUP); });
			own_jobs_due_ = true;
		}
		supervise(monotonic_us());
		if (agent_.running())
			receive();
		expire(monotonic_us());
		take_slots(monotonic_us());
		run_own_jobs(monotonic_us());
		if (agent_.has_output())
			receive(); // sends
		wait(monotonic_us());
	}
	agent_.stop(kStopGraceMs);
	agent_shared->agent_pid.store(0);
	agent_shared->agent_answers.store(false);
}

void leave(int, Datum)
{
	agent_shared->worker_procno.store(-1);
	agent_shared->worker_pid.store(0);
	agent_shared->agent_answers.store(false);
	agent_shared->agent_pid.store(0); // dies with this process
}

} // namespace

void register_agent_worker()
{
	BackgroundWorker worker{};
	strlcpy(worker.bgw_name, "pg_seal agent", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "pg_seal agent", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_PostmasterStart;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "pg_seal", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "pg_seal_agent_main", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

extern "C" void pg_seal_agent_main(Datum)
{
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	if (!agent_shared || !agent_slots())
		ereport(FATAL, (errmsg("pg_seal agent: the library must be named in shared_preload_libraries")));
	before_shmem_exit(leave, static_cast<Datum>(0));
	agent_shared->worker_pid.store(MyProcPid);
	agent_shared->worker_procno.store(MyProc->pgprocno);
	if (agent_shared->agent_starts.load() == 0)
		audit_server_start();
	pg_entry([] {
		AgentWorker worker;
		worker.run();
	});
	proc_exit(1); // anything but 0: restarted, should the server not be shutting down
}

} // namespace seal::pg
