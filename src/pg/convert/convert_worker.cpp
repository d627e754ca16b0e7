#include "convert_worker.hpp"

#include "../guard.hpp"
#include "../keymap/key_draft.hpp"
#include "../operations/operation_shared.hpp"
#include "../registry/registry_store.hpp"
#include "work_list.hpp"

#include "seal/secret.hpp"

extern "C" {
#include "access/relation.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/bgwriter.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

#include <cstring>

namespace seal::pg {

namespace {

constexpr int kGroupRelations = 64;            // begun together ...
constexpr BlockNumber kGroupBlocks = 4096;     // ... and no more than this many pages
constexpr int kPendingRelations = 1024;        // swept relations that wait for one checkpoint ...
constexpr uint64 kPendingBlocks = 4ull << 20;  // ... and their pages (32 GB)
constexpr int kMaxRounds = 10;                 // of checkpoint and verification
static_assert(kPendingRelations + kGroupRelations < kMaxTransitions);

// One run over one database. Everything it holds lies in `context`, which outlives its transactions.
struct Run {
	ConvertTask task;
	SealGoal goal;
	MemoryContext context;
	Throttle throttle;
	WorkRelation* pending; // swept, to be verified and ended
	TransitionItem* pending_items;
	int pending_count;
	uint64 pending_blocks;
	KeyDraft* drafts; // of the group that was begun last
	int draft_count;
	int busy, failed;
};

bool stop_wanted(const Run& run) { return operation_stop_request(run.task.database) != StopRequest::none; }
bool leave_wanted(const Run& run) { return operation_stop_request(run.task.database) == StopRequest::leave; }

KeyForm form_of(const RelFileNode& node)
{
	KeySlot slot;
	if (keymap_find(node, &slot) == Lookup::absent)
		return {CipherId::none, 0};
	return slot.form;
}

void show_place(const Run& run, const WorkRelation* work, const char* phase)
{
	char name[NAMEDATALEN * 2 + 2] = "";
	if (work) {
		StartTransactionCommand();
		char* relation = get_rel_name(work->relation);
		char* schema = relation ? get_namespace_name(get_rel_namespace(work->relation)) : nullptr;
		if (schema)
			snprintf(name, sizeof name, "%s.%s", schema, relation);
		CommitTransactionCommand();
	}
	operation_set_place(run.task.database, name, phase);
}

// Runs one step; an ERROR in it is noted for the operation and aborts the step's transaction. False: it failed.
template <class F> bool step(Run* run, const WorkRelation* work, F&& fn)
{
	try {
		pg_call([&] { fn(); });
		return true;
	} catch (const PgError& e) {
		char message[256];
		if (work)
			snprintf(message, sizeof message, "relation %u of database %u: %s", work->relation, work->node.dbNode, e.data->message);
		else
			strlcpy(message, e.data->message, sizeof message);
		FreeErrorData(e.data);
		AbortCurrentTransaction();
		MemoryContextSwitchTo(run->context);
		operation_set_error(message);
		ereport(LOG, (errmsg("pg_seal operation " UINT64_FORMAT ": %s", run->task.operation, message)));
		++run->failed;
		if (work)
			pg_atomic_fetch_add_u32(&operation_shared()->failed_relations, 1);
		return false;
	}
}

// Those of the group before: they may hold keys that were drawn and not used.
void forget_drafts(Run* run) noexcept
{
	if (!run->drafts)
		return;
	wipe(run->drafts, sizeof(KeyDraft) * static_cast<Size>(run->draft_count));
	pfree(run->drafts);
	run->drafts = nullptr;
}

// Begins what of the group can be locked at once; the others stay for the next pass. Returns how many are in `group` now.
int begin_group(Run* run, WorkRelation* group, TransitionItem* items, int count)
{
	for (int i = 0; i < count; ++i)
		items[i] = {group[i].node, group[i].unlogged, nullptr, false, false};
	forget_drafts(run);
	KeyDraft* const drafts = transition_drafts(items, count, run->goal);
	run->drafts = drafts;
	run->draft_count = count;

	StartTransactionCommand();
	int begun = 0;
	for (int i = 0; i < count; ++i) {
		if (!ConditionalLockRelationOid(group[i].relation, AccessShareLock)) {
			++run->busy;
			continue;
		}
		const Relation relation = try_relation_open(group[i].relation, NoLock);
		const bool same = relation && RelFileNodeEquals(relation->rd_node, group[i].node);
		if (relation)
			relation_close(relation, NoLock);
		if (!same)
			continue;
		group[begun] = group[i];
		items[begun] = items[i];
		drafts[begun++] = drafts[i];
	}
	if (begun > 0)
		transition_begin(group[0].node.dbNode, items, drafts, begun, run->goal);
	CommitTransactionCommand();
	MemoryContextSwitchTo(run->context);
	return begun;
}

void keep_pending(Run* run, const WorkRelation& work, const TransitionItem& item)
{
	run->pending[run->pending_count] = work;
	run->pending_items[run->pending_count++] = item;
	run->pending_blocks += work.blocks;
}

// Ends the transitions of what has been swept: rounds of checkpoint, reading every page on disk (sweeping what is still old), ending. More
// than one round is needed only where pages without an LSN (free space maps) were written meanwhile.
void finish_pending(Run* run)
{
	const int count = run->pending_count;
	auto* writes = static_cast<uint64*>(palloc(sizeof(uint64) * kPendingRelations * 2));
	auto* ready_writes = writes + kPendingRelations;
	auto* ended = static_cast<bool*>(palloc(sizeof(bool) * kPendingRelations));
	auto* ready = static_cast<TransitionItem*>(palloc(sizeof(TransitionItem) * kPendingRelations));
	int left = count;
	for (int round = 0; left > 0 && !leave_wanted(*run); ++round) {
		if (round == kMaxRounds) {
			operation_set_error("pages keep being written in their old form; the next run goes on");
			++run->busy;
			break;
		}
		show_place(*run, nullptr, "checkpoint");
		if (!step(run, nullptr, [] { RequestCheckpoint(CHECKPOINT_IMMEDIATE | CHECKPOINT_FORCE | CHECKPOINT_WAIT | CHECKPOINT_FLUSH_ALL); }))
			break;
		transition_old_writes(run->pending_items, writes, left);

		show_place(*run, nullptr, "verifying");
		int ready_count = 0, kept = 0, locked = 0;
		for (int i = 0; i < left; ++i) {
			const WorkRelation work = run->pending[i];
			const TransitionItem item = run->pending_items[i];
			uint64 found = 0;
			SweepResult result = SweepResult::gone;
			const bool ok = step(run, &work, [&] {
				result = sweep_relation(work, {form_of(work.node), SweepPages::old_on_disk, false, run->task.database}, &run->throttle, &found);
			});
			if (!ok || result == SweepResult::gone)
				continue; // stays as it is: the next pass lists it again, if it still exists
			locked += result == SweepResult::busy;
			if (result == SweepResult::done && found == 0) {
				ready_writes[ready_count] = writes[i];
				ready[ready_count++] = item;
			}
			run->pending[kept] = work;
			run->pending_items[kept++] = item;
		}
		left = kept;
		if (ready_count == 0 && locked == left) { // another checkpoint would not help: the next pass goes on
			run->busy += locked;
			break;
		}
		if (ready_count == 0)
			continue;
		const bool flipped = step(run, nullptr, [&] {
			StartTransactionCommand();
			const int done = transition_finish(ready[0].node.dbNode, ready, ready_writes, ended, ready_count);
			CommitTransactionCommand();
			pg_atomic_fetch_add_u64(&operation_shared()->relations_done, static_cast<uint64>(done));
		});
		if (!flipped)
			break;
		MemoryContextSwitchTo(run->context);
		kept = 0;
		for (int i = 0, r = 0; i < left; ++i) {
			const bool was_ready = r < ready_count && RelFileNodeEquals(ready[r].node, run->pending_items[i].node);
			if (was_ready && ended[r++])
				continue;
			run->pending[kept] = run->pending[i];
			run->pending_items[kept++] = run->pending_items[i];
		}
		left = kept;
	}
	pfree(writes);
	pfree(ended);
	pfree(ready);
	run->pending_count = 0;
	run->pending_blocks = 0;
}

void sweep_group(Run* run, const WorkRelation* group, const TransitionItem* items, int count)
{
	for (int i = 0; i < count && !leave_wanted(*run); ++i) {
		if (!items[i].begun)
			continue;
		SweepResult result = SweepResult::gone;
		uint64 found = 0;
		if (group[i].blocks > 0)
			show_place(*run, &group[i], run->goal.sealed ? "sealing" : "unsealing");
		const bool ok = step(run, &group[i], [&] {
			const SweepPages pages = items[i].resumed ? SweepPages::old_on_disk : SweepPages::all;
			result = sweep_relation(group[i], {form_of(group[i].node), pages, true, run->task.database}, &run->throttle, &found);
		});
		if (ok && result == SweepResult::done)
			keep_pending(run, group[i], items[i]);
		else if (ok && result == SweepResult::busy)
			++run->busy;
	}
}

// The next relations to begin together.
int group_size(const WorkRelation* list, int left)
{
	int count = 0;
	for (BlockNumber blocks = 0; count < Min(left, kGroupRelations); ++count) {
		blocks += list[count].blocks;
		if (count > 0 && blocks > kGroupBlocks)
			break;
	}
	return count;
}

int list_all(Run* run, WorkRelation** list)
{
	int count = 0;
	(void)step(run, nullptr, [&] {
		StartTransactionCommand();
		WorkRelation* found;
		count = list_work(run->task.tablespace, run->goal.sealed, run->task.begun_only, &found);
		*list = static_cast<WorkRelation*>(MemoryContextAllocHuge(run->context, sizeof(WorkRelation) * static_cast<Size>(Max(count, 1))));
		memcpy(*list, found, sizeof(WorkRelation) * static_cast<Size>(count));
		CommitTransactionCommand();
	});
	MemoryContextSwitchTo(run->context);
	uint64 blocks = 0;
	for (int i = 0; i < count; ++i)
		blocks += (*list)[i].blocks;
	pg_atomic_fetch_add_u64(&operation_shared()->pages_total, blocks);
	return count;
}

// Nothing is listed. Is there a file whose relation nobody can see yet? Then its transaction must end first. False: nothing to wait for.
bool must_wait_for_strays(Run* run)
{
	StrayFiles strays = {};
	(void)step(run, nullptr, [&] {
		StartTransactionCommand();
		count_stray_files(run->task.tablespace, run->goal.sealed, &strays);
		CommitTransactionCommand();
	});
	MemoryContextSwitchTo(run->context);
	if (strays.all == 0)
		return false;
	OperationShared* shared = operation_shared();
	const TransactionId oldest = GetOldestActiveTransactionId();
	if (pg_atomic_read_u64(&shared->stray_operation) != run->task.operation) {
		pg_atomic_write_u64(&shared->stray_xid, XidFromFullTransactionId(ReadNextFullTransactionId()));
		pg_atomic_write_u64(&shared->stray_operation, run->task.operation);
	}
	const auto before = static_cast<TransactionId>(pg_atomic_read_u64(&shared->stray_xid));
	if (TransactionIdPrecedes(oldest, before)) {
		char reason[128];
		const int pid = BackendXidGetPid(oldest);
		snprintf(reason, sizeof reason, "transaction %u%s, which began before and may have created relations", oldest,
		         pid != 0 ? psprintf(" (process %d)", pid) : "");
		operation_set_waiting(reason);
		return true;
	}
	if (strays.with_pages > 0)
		ereport(LOG, (errmsg("pg_seal operation " UINT64_FORMAT ": %d files in tablespace %u belong to no relation of database %u, for example \"%s\"",
		                     run->task.operation, strays.with_pages, run->task.tablespace, run->task.database, strays.example),
		              errhint("They were left behind by a crash and stay as they are.")));
	return false;
}

WorkerOutcome convert_database(Run* run)
{
	show_place(*run, nullptr, "counting");
	WorkRelation* list = nullptr;
	const int count = list_all(run, &list);
	pg_atomic_write_u64(&operation_shared()->work_found, static_cast<uint64>(count));
	if (count == 0 && run->failed == 0 && !run->task.begun_only && must_wait_for_strays(run))
		return WorkerOutcome::waiting;

	run->pending = static_cast<WorkRelation*>(palloc(sizeof(WorkRelation) * kPendingRelations));
	run->pending_items = static_cast<TransitionItem*>(palloc(sizeof(TransitionItem) * kPendingRelations));
	TransitionItem items[kGroupRelations];
	int next = 0;
	while (next < count && !stop_wanted(*run)) {
		WorkRelation* group = list + next;
		const int size = group_size(group, count - next);
		next += size;
		int begun = 0;
		if (step(run, size == 1 ? group : nullptr, [&] { begun = begin_group(run, group, items, size); }))
			sweep_group(run, group, items, begun);
		if (run->pending_count > kPendingRelations - kGroupRelations || run->pending_blocks > kPendingBlocks)
			finish_pending(run);
	}
	forget_drafts(run);
	if (run->pending_count > 0)
		finish_pending(run);
	operation_set_place(run->task.database, "", "");
	if (run->failed > 0)
		return WorkerOutcome::failed;
	if (run->busy > 0 && run->busy == count) { // nothing could be done
		char reason[96];
		snprintf(reason, sizeof reason, "locks that sessions hold on %d relations", run->busy);
		operation_set_waiting(reason);
		return WorkerOutcome::waiting;
	}
	return next < count || stop_wanted(*run) ? WorkerOutcome::stopped : WorkerOutcome::done;
}

void prepare_process(const ConvertTask& task)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(task.database, InvalidOid, BGWORKER_BYPASS_ALLOWCONN);
	for (const char* timeout : {"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"})
		SetConfigOption(timeout, "0", PGC_SUSET, PGC_S_OVERRIDE);
	pgstat_report_appname("pg_seal conversion");
}

} // namespace

} // namespace seal::pg

void pg_seal_convert_main(Datum)
{
	using namespace seal::pg;
	pg_entry([] {
		Run run = {};
		memcpy(&run.task, MyBgworkerEntry->bgw_extra, sizeof run.task);
		prepare_process(run.task);
		run.context = AllocSetContextCreate(TopMemoryContext, "pg_seal conversion", ALLOCSET_DEFAULT_SIZES);
		MemoryContextSwitchTo(run.context);
		const SealPolicy policy = policy_of_tablespace(run.task.tablespace);
		run.goal = {policy.sealed, policy.keyring_id, policy.cipher};
		const WorkerOutcome outcome = convert_database(&run);
		pg_atomic_write_u32(&operation_shared()->outcome, static_cast<uint32>(outcome));
	});
	proc_exit(0);
}
