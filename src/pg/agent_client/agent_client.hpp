// Asking the key agent: a backend fills a request slot in the vault mapping, the agent worker carries it over the socket pair
// and brings the answer back. Waits on the latch: cancellable at once, never longer than the deadline, never under an LWLock.
#pragma once

#include "../pg.hpp"

#include "seal/agent_protocol.hpp"

namespace seal::pg {

// Sends and waits. Throws SealError (the provider's own error; provider_unreachable when the agent does not run; timeout) or
// PgError (query cancelled). `request.timeout_ms` 0 means pg_seal.provider_timeout. Fills provider overrides itself.
AgentReply agent_call(AgentRequest request);

void agent_wake() noexcept; // sets the worker's latch: registry changed, hsm pool low, DEKs to load. Async-safe, no lock.
// Asks the worker to load a keyring's keys (redo met a keyring created after start) or an hsm DEK; returns at once.
void agent_want_keyring(uint32 keyring_id) noexcept;
void agent_want_dek(uint32 keyring_id, const uint8* wrapped, uint32 size,
                    uint32 kek_version = 0 /* not known */) noexcept;

struct AgentHealth {
	bool worker_running, agent_running;
	pid_t worker_pid, agent_pid;
	uint64 agent_starts, requests, failures;
	char last_error[256];
	TimestampTz last_error_at;
};
AgentHealth agent_health() noexcept;

// The background worker's main (registered by module.cpp), and the start-time unlock (postmaster or single-user).
extern "C" PGDLLEXPORT void pg_seal_agent_main(Datum arg);
void register_agent_worker();
void unlock_at_start(); // reads pg_seal/registry; no keyring: returns. Runs `pgseal unlock`; FATAL with provider, reason, hint.

} // namespace seal::pg
