// What a backend and the agent worker share: request slots (in the vault's mapping, because requests and replies carry secrets)
// and counters, wishes and the worker's latch (in the server's shared memory). For agent_client/ and workers/agent_* only.
//
// A slot's states, and who moves it:
//   free      -> claimed    backend    compare-and-swap; the bytes are its own until it lets go
//   claimed   -> ready      backend    request complete (release)
//   ready     -> taken      worker     on its way to the agent; the request stays in `bytes` until the reply replaces it
//   taken     -> done       worker     reply complete (release), owner's latch set
//   done      -> free       backend    after copying the reply out and wiping
//   ready     -> claimed    backend    gave up early (cancel, timeout): wipes and frees
//   taken     -> abandoned  backend    gave up late: the worker wipes and frees
// Whoever moves a slot to `free` has wiped its bytes. A backend that exits lets go through an exit callback; after a
// crash agent_shmem_init() wipes and frees all.
#pragma once

#include "agent_client.hpp"

#include "../vault/vault.hpp"

extern "C" {
#include "storage/s_lock.h"
#include "storage/spin.h"
}

#include <atomic>
#include <string>

namespace seal::pg {

inline constexpr int kAgentSlots = 16;
inline constexpr uint32 kAgentSlotSize = 65536;
// The longest request or reply of agent_call(): callers with many keys split them into batches (250 wrapped keys fit).
inline constexpr uint32 kAgentSlotBytes = kAgentSlotSize - 64;

enum class SlotUse : uint32 { free = 0, claimed, ready, taken, done, abandoned };

struct AgentSlot {
	std::atomic<SlotUse> use;
	uint32 owner; // pgprocno
	uint32 size;  // of `bytes`
	AgentOp op;
	int64 deadline_us; // CLOCK_MONOTONIC
	uint8 unused[40];
	uint8 bytes[kAgentSlotBytes];
};
static_assert(sizeof(AgentSlot) == kAgentSlotSize && offsetof(AgentSlot, bytes) == 64);
static_assert(kAgentSlots * sizeof(AgentSlot) == kVaultAgentRegionSize);
static_assert(std::atomic<SlotUse>::is_always_lock_free);

struct WantedDek {
	uint32 keyring, kek_version /* 0: not known */, size;
	uint8 wrapped[kWrappedSeedMax];
};
inline constexpr uint32 kMaxWantedDeks = 1024;

struct AgentShared {
	std::atomic<int32> worker_procno; // -1: no worker
	std::atomic<int32> worker_pid, agent_pid;
	std::atomic<bool> agent_answers;
	std::atomic<uint64> agent_starts, requests, failures;
	std::atomic<bool> keyring_wanted; // somebody waits for a keyring's key
	std::atomic<bool> deks_overflow;  // the list below was full: look through the key files
	slock_t mutex;                    // for what follows
	uint32 wanted_count;
	WantedDek wanted[kMaxWantedDeks];
	char last_error[256];
	TimestampTz last_error_at;
};
static_assert(sizeof(pid_t) == sizeof(int32));

extern AgentShared* agent_shared;  // nullptr before agent_shmem_init()
AgentSlot* agent_slots() noexcept; // kAgentSlots of them; nullptr without a vault

int64 monotonic_us() noexcept;
void agent_note_error(const char* message) noexcept; // for agent_health()
// Wipes and frees; the caller owns the slot.
void agent_slot_release(AgentSlot& slot) noexcept;

// This node's overrides of provider settings: the text of pg_seal.provider_overrides_file; empty without one. Throws SealError.
std::string provider_overrides_text();

} // namespace seal::pg
