#include "reaper_worker.hpp"

#include "../guard.hpp"
#include "../keymap/key_file.hpp"
#include "../keymap/keymap.hpp"
#include "../wal/wal_switch.hpp"

extern "C" {
#include "catalog/pg_database_d.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/wait_event.h"
}

namespace seal::pg {

namespace {

constexpr long kPause = 60 * 1000; // ms

struct Found {
	Oid* databases;
	int count, room;
};

void note_database(Oid database, Oid, void* arg)
{
	auto* found = static_cast<Found*>(arg);
	if (found->count == found->room) {
		found->room *= 2;
		found->databases = static_cast<Oid*>(repalloc(found->databases, found->room * sizeof(Oid)));
	}
	found->databases[found->count++] = database;
}

// RowExclusiveLock on the database conflicts with the locks of CREATE DATABASE ... STRATEGY file_copy and ALTER DATABASE SET
// TABLESPACE, which copy the directory raw. Not available: next time.
void reap_database(Oid database)
{
	LOCKTAG tag;
	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, database, 0);
	if (OidIsValid(database) && LockAcquire(&tag, RowExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
		return;
	const int wiped = keymap_reap(database);
	if (OidIsValid(database))
		LockRelease(&tag, RowExclusiveLock, true);
	if (wiped > 0)
		ereport(LOG, (errmsg("pg_seal erased %d keys of dropped relations of database %u", wiped, database)));
}

// An ERROR ends this process; its session locks are nobody else's to release, for it never had a session.
void release_locks(int, Datum) { LockReleaseAll(DEFAULT_LOCKMETHOD, true); }

void reap_all(MemoryContext context)
{
	const MemoryContext caller = MemoryContextSwitchTo(context);
	Found found = {static_cast<Oid*>(palloc(16 * sizeof(Oid))), 0, 16};
	key_file_walk(note_database, &found);
	for (int i = 0; i < found.count && !ShutdownRequestPending; ++i)
		reap_database(found.databases[i]);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(context);
}

} // namespace

void pg_seal_reaper_main(Datum)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	before_shmem_exit(release_locks, 0);
	BackgroundWorkerUnblockSignals();
	CurrentResourceOwner = ResourceOwnerCreate(nullptr, "pg_seal reaper");
	const MemoryContext context = AllocSetContextCreate(TopMemoryContext, "pg_seal reaper", ALLOCSET_DEFAULT_SIZES);

	// An ERROR ends the worker; the postmaster starts it again after its restart interval.
	pg_entry([&] {
		while (!ShutdownRequestPending) {
			wal_complete_switch();
			(void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, kPause, PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
			if (ConfigReloadPending) {
				ConfigReloadPending = false;
				ProcessConfigFile(PGC_SIGHUP);
			}
			if (!ShutdownRequestPending)
				reap_all(context);
		}
	});
}

void register_reaper_worker()
{
	BackgroundWorker worker = {};
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = 60;
	strlcpy(worker.bgw_library_name, "pg_seal", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "pg_seal_reaper_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "pg_seal reaper", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "pg_seal reaper", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

} // namespace seal::pg
