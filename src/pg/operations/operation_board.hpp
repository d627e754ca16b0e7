// What the launcher, SQL functions and DDL share besides OperationShared: who the launcher is, where its worker is about to be, how fast it is.
//
// The rule between DDL and launcher (both sides with a full memory barrier between their two steps):
//   DDL       puts the database into a vacate slot, then reads `visiting`
//   launcher  writes `visiting`, then reads the vacate slots
// so at least one of them sees the other: either DDL waits for the worker to leave, or the launcher does not start it.
#pragma once

#include "operation_shared.hpp"

#include <type_traits>

namespace seal::pg {

struct OperationBoard {
	OperationShared shared;
	pg_atomic_uint32 launcher;   // 1 + its number among the server's processes; 0: not running
	pg_atomic_uint32 visiting;   // the database that a worker is in, or about to be started in; 0: none
	pg_atomic_uint32 worker_pid; // of the worker that was started last, until it is known to be gone
	pg_atomic_uint64 rate;       // pages per 1000 s, smoothed
	pg_atomic_uint64 pages_estimate; // of the whole operation, made before it began
};
static_assert(std::is_trivially_copyable_v<OperationBoard>);

OperationBoard* operation_board() noexcept;

void operation_wake_launcher() noexcept; // sets its latch; no lock
bool operation_launcher_runs() noexcept;
inline constexpr char kNoLauncherHint[] = "Look for it in the server log; max_worker_processes may be too small.";
// Of the operation that runs: what was estimated before it began. What workers count falls short of it until the last database was visited, and
// counts pages twice that were converted before an interruption.
uint64 operation_pages_total() noexcept;
bool operation_vacated(Oid database) noexcept;

} // namespace seal::pg
