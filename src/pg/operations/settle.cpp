#include "settle.hpp"

#include "../guard.hpp"
#include "../keymap/key_file.hpp"
#include "../keymap/transition.hpp"

extern "C" {
#include "access/xact.h"
#include "catalog/pg_database_d.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/timestamp.h"
}

namespace seal::pg {

namespace {

constexpr int kEveryMs = 60 * 1000;

struct Found {
	Oid* databases;
	int count, room;
};

void note_database(Oid database, Oid, void* arg)
{
	auto* found = static_cast<Found*>(arg);
	if (found->count == found->room) {
		found->room *= 2;
		found->databases = static_cast<Oid*>(repalloc(found->databases, sizeof(Oid) * static_cast<Size>(found->room)));
	}
	found->databases[found->count++] = database;
}

// The lock conflicts with raw copies of the database's directory, as the reaper's does. Not to be had: next time.
void settle_database(Oid database)
{
	LOCKTAG tag;
	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, database, 0);
	if (OidIsValid(database) && LockAcquire(&tag, RowExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return;
	const int settled = transition_settle(database);
	if (settled > 0)
		ereport(LOG, (errmsg("pg_seal erased the former keys of %d relations of database %u", settled, database)));
}

} // namespace

void settle_when_due()
{
	static TimestampTz last = 0;
	const TimestampTz now = GetCurrentTimestamp();
	if (!TimestampDifferenceExceeds(last, now, kEveryMs))
		return;
	last = now;
	try {
		pg_call([] {
			StartTransactionCommand();
			Found found = {static_cast<Oid*>(palloc(sizeof(Oid) * 16)), 0, 16};
			key_file_walk(note_database, &found);
			for (int i = 0; i < found.count; ++i)
				settle_database(found.databases[i]);
			CommitTransactionCommand();
		});
	} catch (const PgError& e) { // a key file that cannot be read, for example; operations must go on
		pg_call([&] {
			ereport(LOG, (errmsg("pg_seal could not erase former keys: %s", e.data->message)));
			FreeErrorData(e.data);
			AbortCurrentTransaction();
		});
	}
}

} // namespace seal::pg
