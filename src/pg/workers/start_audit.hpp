// The audit event of a server start: which keyrings were unlocked. Written by the agent worker when it first runs, because the postmaster
// must not touch shared locks. After a crash-restart it is written again.
#pragma once

namespace seal::pg {

void audit_server_start() noexcept; // a WARNING in the server log when it cannot be recorded

} // namespace seal::pg
