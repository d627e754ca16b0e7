#include "operation_launcher.hpp"

#include "../guard.hpp"
#include "../registry/registry_store.hpp"
#include "operation_board.hpp"
#include "operation_record.hpp"
#include "operation_run.hpp"
#include "settle.hpp"

extern "C" {
#include "access/xact.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
}

namespace seal::pg {

namespace {

constexpr int kRestartSeconds = 2;
constexpr long kIdleMs = 10 * 1000;
constexpr long kOrphanPollMs = 100;

void leave(int, Datum)
{
	pg_atomic_write_u32(&operation_board()->launcher, 0);
	pg_atomic_write_u64(&operation_shared()->id, 0);
}

// A worker of a launcher that ended: two workers must never be at work. It was told to end when its launcher did.
void wait_for_orphan()
{
	OperationBoard* board = operation_board();
	for (;;) {
		const uint32 pid = pg_atomic_read_u32(&board->worker_pid);
		if (pid == 0 || !BackendPidGetProc(static_cast<int>(pid)))
			break;
		pg_atomic_write_u32(&board->shared.stop_requested, static_cast<uint32>(StopRequest::leave));
		launcher_pause(kOrphanPollMs);
		if (ProcDiePending)
			proc_exit(1);
	}
	pg_atomic_write_u32(&board->worker_pid, 0);
	pg_atomic_write_u32(&board->visiting, InvalidOid);
}

void run_operations()
{
	uint64 seen = UINT64_MAX; // the registry is parsed only when it has changed
	while (!ProcDiePending) {
		const uint64 now = registry_sequence();
		if (now != seen && run_next_operation()) {
			seen = UINT64_MAX;
			continue;
		}
		seen = now;
		if (!ProcDiePending) {
			settle_when_due();
			launcher_pause(kIdleMs);
		}
	}
}

} // namespace

void launcher_pause(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	if (ProcDiePending)
		return; // the caller ends what it does, then leaves
	if (ConfigReloadPending) {
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	CHECK_FOR_INTERRUPTS();
}

void pg_seal_operations_main(Datum)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(nullptr, nullptr, 0);
	before_shmem_exit(leave, 0);
	pg_atomic_write_u32(&operation_board()->launcher, static_cast<uint32>(MyProc->pgprocno) + 1);
	pg_entry([] {
		wait_for_orphan();
		pg_call([] { StartTransactionCommand(); });
		create_lost_operations();
		pg_call([] { CommitTransactionCommand(); });
		run_operations();
	});
	proc_exit(1); // started again, should the server not be shutting down
}

void register_operation_launcher()
{
	BackgroundWorker worker = {};
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = kRestartSeconds;
	strlcpy(worker.bgw_library_name, "pg_seal", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "pg_seal_operations_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "pg_seal operations", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "pg_seal operations", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

} // namespace seal::pg
