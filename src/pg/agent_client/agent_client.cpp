#include "agent_slots.hpp"

#include "../guard.hpp"
#include "../guc.hpp"

extern "C" {
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/wait_event.h"
}

#include <algorithm>

namespace seal::pg {

namespace {

constexpr int64 kSecond = 1000000;
constexpr int64 kGrace = kSecond / 2;         // the worker answers a late request itself; only then is it given up here
constexpr int64 kWorkerAbsence = 3 * kSecond; // a worker that restarts is back sooner

AgentSlot* held; // this process's slot while it waits

// Gives the slot back in whatever state it is. Also from the exit callback: a FATAL unwinds no C++ frame.
void let_go() noexcept
{
	AgentSlot* const slot = held;
	held = nullptr;
	if (!slot)
		return;
	SlotUse seen = slot->use.load(std::memory_order_acquire);
	while (seen == SlotUse::ready || seen == SlotUse::taken) {
		const SlotUse next = seen == SlotUse::ready ? SlotUse::claimed : SlotUse::abandoned;
		if (slot->use.compare_exchange_weak(seen, next, std::memory_order_acq_rel, std::memory_order_acquire)) {
			if (next == SlotUse::abandoned)
				return;
			seen = next;
		}
	}
	agent_slot_release(*slot);
}

void let_go_at_exit(int, Datum) { let_go(); }

struct HeldSlot {
	~HeldSlot() { let_go(); }
};

void register_exit_callback()
{
	static int registered_by = 0;
	if (registered_by == MyProcPid)
		return;
	pg_call([] { before_shmem_exit(let_go_at_exit, static_cast<Datum>(0)); });
	registered_by = MyProcPid;
}

// Sleeps until the latch is set or `until`; raises when the query is cancelled.
void nap(int64 until)
{
	const long ms = static_cast<long>(std::clamp<int64>((until - monotonic_us()) / 1000 + 1, 1, 1000));
	pg_call([ms] {
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	});
}

[[noreturn]] void raise_no_worker()
{
	raise({ErrorCode::provider_unreachable, "the key agent is not running",
	       IsUnderPostmaster ? "Look in the server log for messages of \"pg_seal agent\"; it is restarted by itself."
	                         : "Key providers are reached in a running server only, not in single-user mode."});
}

[[noreturn]] void raise_timeout(const AgentRequest& request)
{
	raise({ErrorCode::timeout,
	       "provider \"" + request.provider_name + "\" did not answer within " + std::to_string(request.timeout_ms) +
	           " ms",
	       "Check the provider with seal.check_provider(), or raise pg_seal.provider_timeout."});
}

AgentSlot* claim(const AgentRequest& request, int64 deadline)
{
	AgentSlot* const slots = agent_slots();
	for (;;) {
		for (int i = 0; i < kAgentSlots; i++) {
			SlotUse expected = SlotUse::free;
			if (slots[i].use.compare_exchange_strong(expected, SlotUse::claimed, std::memory_order_acq_rel)) {
				held = &slots[i];
				return held;
			}
		}
		if (monotonic_us() >= deadline)
			raise_timeout(request);
		nap(std::min(deadline, monotonic_us() + kSecond / 50)); // more than kAgentSlots requests at once: rare
	}
}

} // namespace

AgentReply agent_call(AgentRequest request)
{
	if (!IsUnderPostmaster || !MyProc || !agent_shared || !agent_slots() || held)
		raise_no_worker();
	Assert(InterruptHoldoffCount == 0); // never under an LWLock
	register_exit_callback();
	if (request.timeout_ms == 0)
		request.timeout_ms = static_cast<uint32>(guc_provider_timeout_ms);
	if (request.op != AgentOp::ping) {
		Result<std::string> merged =
			merge_overrides(request.provider_name, request.provider_config, provider_overrides_text());
		if (!merged)
			raise(std::move(merged.error()));
		request.provider_config = std::move(merged.value());
	}

	const int64 start = monotonic_us();
	const int64 deadline = start + int64{request.timeout_ms} * 1000;
	AgentSlot* const slot = claim(request, deadline);
	const HeldSlot letting_go;
	{
		Bytes message = request.encode();
		const bool fits = message.size() <= kAgentSlotBytes;
		if (fits) {
			memcpy(slot->bytes, message.data(), message.size());
			slot->size = static_cast<uint32>(message.size());
		}
		wipe_message(message);
		if (!fits)
			raise({ErrorCode::invalid_argument, "a request to the key agent is too large",
			       "At most " + std::to_string(kAgentSlotBytes) + " bytes fit; use smaller batches."});
	}
	slot->owner = static_cast<uint32>(MyProc->pgprocno);
	slot->op = request.op;
	slot->deadline_us = deadline;
	slot->use.store(SlotUse::ready, std::memory_order_release);
	agent_shared->requests.fetch_add(1, std::memory_order_relaxed);
	agent_wake();

	for (int64 worker_seen = start; slot->use.load(std::memory_order_acquire) != SlotUse::done;) {
		const int64 now = monotonic_us();
		if (agent_shared->worker_procno.load() >= 0)
			worker_seen = now;
		else if (now - worker_seen > kWorkerAbsence)
			raise_no_worker();
		if (now >= deadline + kGrace)
			raise_timeout(request);
		nap(deadline + kGrace);
	}
	Result<AgentReply> reply = AgentReply::decode({slot->bytes, slot->size});
	if (!reply)
		raise(std::move(reply.error()));
	if (reply->error)
		raise(std::move(*reply->error));
	return std::move(reply.value());
}

} // namespace seal::pg
