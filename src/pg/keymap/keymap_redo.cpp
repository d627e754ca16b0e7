// Replaying key records, and burying them. Redo is idempotent and never takes a record backwards: the larger version wins, whatever
// order a base backup copied files in.
#include "keymap.hpp"

#include "../shmem.hpp"
#include "../xlog.hpp"
#include "key_draft.hpp"
#include "keymap_store.hpp"
#include "transition.hpp"

extern "C" {
#include "access/xlog.h"
#include "commands/tablespace.h"
#include "storage/bufpage.h"
}

#include <cstring>
#include <ctime>

namespace seal::pg {

namespace {

// A key file that redo makes has an id of its own, and so has one that a backup brought: what pg_seal/keyfiles says must be this node's. Versions are
// noted by restart points. Only the startup process comes here.
void remember_once(const DatabaseKeys& database)
{
	static DatabaseKeys last = {};
	if (last.in_use && last.database == database.database && last.default_tablespace == database.default_tablespace &&
	    memcmp(last.file_id, database.file_id, sizeof last.file_id) == 0)
		return;
	keymap_remember_file(database);
	last = database;
	last.in_use = true;
}

} // namespace

void keymap_redo(XLogReaderState* reader)
{
	KeyUpsertRecord record;
	if (XLogRecGetDataLen(reader) != sizeof record)
		ereport(PANIC, (errmsg("pg_seal: key record in WAL has %u bytes instead of %zu", XLogRecGetDataLen(reader), sizeof record)));
	memcpy(&record, XLogRecGetData(reader), sizeof record);
	if (!keymap_takes_effect(record.slot, reader->EndRecPtr))
		return;

	LWLockAcquire(seal_lock(Lock::keymap_writer), LW_EXCLUSIVE);
	// The directory may be gone because a later record of this WAL drops the database: make it, that record removes it again.
	if (OidIsValid(record.database) && !OidIsValid(key_file_default_tablespace(record.database, record.default_tablespace)))
		TablespaceCreateDbspace(record.default_tablespace, record.database, true);
	DatabaseKeys database;
	if (!keymap_load(record.database, record.default_tablespace, true, ERROR, &database))
		ereport(PANIC, (errmsg("pg_seal: no directory for database %u", record.database)));

	const SlotKey key = {record.database, record.slot.tablespace, record.slot.rel_node};
	SlotPlaces places;
	keymap_place_slots(&database, &key, 1, &places);
	PlacedSlot* place = places.slots;
	if (!place->there || place->target()->version < record.slot.version) {
		if (place->there)
			XLogFlush(reader->EndRecPtr); // moves minRecoveryPoint: the older record is needed before this point and gone after it
		keymap_set_slot(place, record.slot, reader->EndRecPtr);
		crash_point("keymap.redo_before_write");
		database.max_version = Max(database.max_version, record.slot.version);
	}
	// Also when the record was there already: it may be in the operating system's memory alone, and the next restart point goes beyond it.
	keymap_write_places_crit(database, places);
	crash_point("keymap.redo_after_write");
	keymap_publish_places(database, places, database.max_version);
	remember_once(database);
	keymap_release_places(database, &places, database.max_version);
	LWLockRelease(seal_lock(Lock::keymap_writer));

	const RelFileNode node = slot_node(database, record.slot);
	if (record.slot.state == SlotState::single)
		vault_throwaway_forget(relation_id(node)); // a new relation of that number
	else
		transition_reclaim(node, record.slot.state == SlotState::finished);
	if (record.slot.state == SlotState::finished) // also when the record was there: what this does may not have reached the disk
		transition_finished_redo(node, record.slot);
}

void keymap_bury(const DatabaseKeys& database, const SlotKey& key, uint32 slot, XLogRecPtr lsn, bool redo) noexcept
{
	alignas(8) static uint8 page[kPageSize];
	char path[MAXPGPATH];
	key_file_path(database.database, database.default_tablespace, path);
	const int fd = key_file_open(path, true, false);
	if (fd < 0) {
		ereport(WARNING, (errcode_for_file_access(), errmsg("could not open key file \"%s\": %m", path)));
		return;
	}
	const uint32 number = slot / kSlotsPerPage;
	if (key_file_read_page(fd, path, number, page, database.file_id, WARNING)) {
		KeySlot* target = key_page_slot(page, slot % kSlotsPerPage);
		const bool ours = slot_is_for(*target, key);
		const bool newer = redo && target->record_lsn > lsn;
		if (ours && !newer && target->dropped_lsn == 0) {
			target->dropped_lsn = lsn;
			target->dropped_at = static_cast<uint32>(time(nullptr));
			if (!key_file_write_page(fd, number, page))
				ereport(WARNING, (errcode_for_file_access(), errmsg("could not write key file \"%s\": %m", path),
				                  errdetail("The key record of a dropped relation stays.")));
		}
	}
	key_file_close(fd);
	key_index_bump_epoch(key.rel_node);
}

} // namespace seal::pg
