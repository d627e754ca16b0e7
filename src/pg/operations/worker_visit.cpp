#include "worker_visit.hpp"

#include "../guard.hpp"
#include "operation_run.hpp"

extern "C" {
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/proc.h"
}

namespace seal::pg {

namespace {

constexpr long kTickMs = 1000;

static_assert(sizeof(ConvertTask) <= BGW_EXTRALEN);
static_assert(std::is_trivially_copyable_v<ConvertTask>);

BackgroundWorkerHandle* current; // the worker that runs, for the way out

// A launcher that ends takes its worker along, whether it has been started yet or not.
void end_worker(int, Datum)
{
	pg_atomic_write_u32(&operation_shared()->stop_requested, static_cast<uint32>(StopRequest::leave));
	if (!current)
		return;
	pid_t pid = 0;
	if (GetBackgroundWorkerPid(current, &pid) == BGWH_STARTED) // the next launcher waits for it
		pg_atomic_write_u32(&operation_board()->worker_pid, static_cast<uint32>(pid));
	TerminateBackgroundWorker(current);
}

bool start(const ConvertTask& task)
{
	static bool registered = false;
	if (!registered)
		before_shmem_exit(end_worker, 0);
	registered = true;

	BackgroundWorker worker = {};
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = ObjectIdGetDatum(task.database);
	memcpy(worker.bgw_extra, &task, sizeof task);
	strlcpy(worker.bgw_library_name, "pg_seal", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "pg_seal_convert_main", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "pg_seal operation " UINT64_FORMAT " in database %u", task.operation, task.database);
	strlcpy(worker.bgw_type, "pg_seal conversion", BGW_MAXLEN);
	const MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext); // the handle outlives transactions
	const bool started = RegisterDynamicBackgroundWorker(&worker, &current);
	MemoryContextSwitchTo(caller);
	return started;
}

void wait_for_end(const std::function<StopRequest()>& tick)
{
	OperationBoard* board = operation_board();
	for (;;) {
		pid_t pid = 0;
		const BgwHandleStatus status = pg_call([&] { return GetBackgroundWorkerPid(current, &pid); });
		if (status == BGWH_STOPPED)
			return;
		if (status == BGWH_STARTED)
			pg_atomic_write_u32(&board->worker_pid, static_cast<uint32>(pid));
		if (ProcDiePending) // the server shuts down, or somebody ends this process: not a moment to finish anything
			pg_call([] { TerminateBackgroundWorker(current); });
		else if (const StopRequest asked = tick(); asked != StopRequest::none)
			pg_atomic_write_u32(&board->shared.stop_requested, static_cast<uint32>(asked));
		pg_call([] { launcher_pause(kTickMs); });
	}
}

} // namespace

Visit visit_database(const ConvertTask& task, const std::function<StopRequest()>& tick)
{
	OperationBoard* board = operation_board();
	OperationShared& shared = board->shared;
	pg_atomic_write_u32(&shared.stop_requested, static_cast<uint32>(StopRequest::none));
	pg_atomic_write_u64(&shared.work_found, 0);
	pg_atomic_write_u32(&shared.outcome, static_cast<uint32>(WorkerOutcome::running));

	pg_atomic_write_u32(&board->visiting, task.database);
	pg_memory_barrier();
	Visit result = Visit::died;
	if (operation_vacated(task.database))
		result = Visit::vacated;
	else if (tick() != StopRequest::none)
		result = Visit::stopped;
	else if (!pg_call([&] { return start(task); }))
		result = Visit::no_slot;
	else {
		wait_for_end(tick);
		pfree(current);
		current = nullptr;
		switch (static_cast<WorkerOutcome>(pg_atomic_read_u32(&shared.outcome))) {
		case WorkerOutcome::running: break;
		case WorkerOutcome::done: result = Visit::done; break;
		case WorkerOutcome::stopped: result = Visit::stopped; break;
		case WorkerOutcome::waiting: result = Visit::waiting; break;
		case WorkerOutcome::failed: result = Visit::failed; break;
		}
	}
	pg_atomic_write_u32(&board->worker_pid, 0);
	pg_atomic_write_u32(&board->visiting, InvalidOid);
	return result;
}

} // namespace seal::pg
