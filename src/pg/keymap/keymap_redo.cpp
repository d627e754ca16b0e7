// Replaying key records, and burying them. Redo is idempotent and never takes a record backwards: the larger version wins, whatever
// order a base backup copied files in.
#include "keymap.hpp"

#include "../shmem.hpp"
#include "../xlog.hpp"
#include "keymap_store.hpp"

extern "C" {
#include "access/xlog.h"
#include "commands/tablespace.h"
#include "storage/bufpage.h"
}

#include <cstring>
#include <ctime>

namespace seal::pg {

void keymap_redo(XLogReaderState* reader)
{
	KeyUpsertRecord record;
	if (XLogRecGetDataLen(reader) != sizeof record)
		ereport(PANIC, (errmsg("pg_seal: key record in WAL has %u bytes instead of %zu", XLogRecGetDataLen(reader), sizeof record)));
	memcpy(&record, XLogRecGetData(reader), sizeof record);

	LWLockAcquire(seal_lock(Lock::keymap_writer), LW_EXCLUSIVE);
	// The directory may be gone because a later record of this WAL drops the database: make it, that record removes it again.
	if (OidIsValid(record.database) && !OidIsValid(key_file_default_tablespace(record.database, record.default_tablespace)))
		TablespaceCreateDbspace(record.default_tablespace, record.database, true);
	DatabaseKeys database;
	if (!keymap_load(record.database, record.default_tablespace, true, ERROR, &database))
		ereport(PANIC, (errmsg("pg_seal: no directory for database %u", record.database)));

	const SlotKey key = {record.database, record.slot.tablespace, record.slot.rel_node};
	SlotPlace place = keymap_place_slot(&database, key);
	KeySlot* target = place.target();
	const bool there = target->state != SlotState::free && target->rel_node == key.rel_node && target->tablespace == key.tablespace;
	if (!there || target->version < record.slot.version) {
		XLogFlush(reader->EndRecPtr); // in recovery: moves minRecoveryPoint, so the file never runs ahead of where recovery must reach
		*target = record.slot;
		target->record_lsn = reader->EndRecPtr;
		target->dropped_lsn = 0;
		target->dropped_at = 0;
		crash_point("keymap.redo_before_write");
		keymap_write_crit(place, reader->EndRecPtr);
		crash_point("keymap.redo_after_write");
		keymap_publish(database, key, place);
		database.max_version = Max(database.max_version, record.slot.version);
	}
	keymap_remember(database, database.max_version); // this node's file has an id of its own
	key_file_close(place.fd);
	LWLockRelease(seal_lock(Lock::keymap_writer));

	const Oid tablespace = OidIsValid(key.tablespace) ? key.tablespace : database.default_tablespace;
	vault_throwaway_forget({key.database, tablespace, key.rel_node});
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
		const bool ours = target->state != SlotState::free && target->rel_node == key.rel_node && target->tablespace == key.tablespace;
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
