// Writing key records: the protocol of key_draft.hpp as one function that reads from top to bottom (docs/architecture.md, "Key files", argues
// every step and every crash between two of them).
//
//   outside any critical section   slots found, file grown; versions, wraps, MACs                       (errors: nothing changed)
//   critical section               checkpoint held off: WAL insert of each -> [flush] -> pages written -> sync requested -> published
#include "key_draft.hpp"

#include "../registry/registry_store.hpp"
#include "../shmem.hpp"
#include "../xlog.hpp"
#include "keymap_store.hpp"

#include "seal/secret.hpp"

extern "C" {
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "storage/proc.h"
}

#include <cstring>

namespace seal::pg {

namespace {

// A record's version is its timeline, then a counter. A crash can leave a slot on disk whose record never became durable. On that node's own timeline
// the counter goes on above what is on disk; a server that follows another one's new timeline may be given a smaller count, for the same
// relfilenode, and must take it all the same.
constexpr int kVersionTimelineShift = 40;

uint64 first_version_of_timeline() noexcept { return uint64{GetWALInsertionTimeLine()} << kVersionTimelineShift; }

void wipe_seeds(KeyDraft* drafts, int count) noexcept
{
	for (int i = 0; i < count; ++i)
		wipe(drafts[i].pooled.seed, sizeof drafts[i].pooled.seed);
}

void get_key(uint32 keyring_id, uint32 version, uint8 key[kKeyringKeySize])
{
	if (!vault_get_keyring_key(keyring_id, version, key))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		                errmsg("the key of keyring \"%s\" is not unlocked", keyring_state(keyring_id).name),
		                errhint("See seal.health: the key agent loads it as soon as its provider answers.")));
}

// Wraps a new seed under the keyring's key, or takes the check value of one that the provider has wrapped.
bool make_dek(KeyDraft* draft, const uint8* keyring_key) noexcept
{
	if (draft->hsm)
		return dek_key_check(draft->pooled.seed, draft->slot.key_check);
	uint8 seed[kDekSeedSize];
	const bool ok = new_dek_seed(seed) && slot_wrap_seed(draft->slot, keyring_key, seed);
	wipe(seed, sizeof seed);
	return ok;
}

// Identity and version are set: they are the associated data of the wrap and under the MAC.
void finish(KeyDraft* draft)
{
	KeySlot& slot = draft->slot;
	memset(slot.mac, 0, sizeof slot.mac);
	if (slot.form.cipher == CipherId::none && slot.old_form.cipher == CipherId::none)
		return; // no key, nothing to be authentic
	if (draft->new_dek)
		(void) key_draft_keyring(slot.keyring_id); // again: it may have been dropped while we waited for the lock
	uint8 key[kKeyringKeySize];
	bool ok = true;
	if (draft->new_dek) {
		if (!draft->hsm)
			get_key(slot.keyring_id, slot.keyring_version, key);
		ok = make_dek(draft, key);
		wipe(key, sizeof key);
	}
	if (ok)
		get_key(slot.keyring_id, slot.mac_key_version, key);
	ok = ok && slot_set_mac(slot, key);
	wipe(key, sizeof key);
	if (!ok)
		ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
		                errmsg("the cryptographic library failed while a key was made"),
		                errhint("Nothing was changed. Check the OpenSSL configuration of the server.")));
}

// Everything that may fail. The slots' places are in memory, the records are complete.
KeyUpsertRecord* prepare(DatabaseKeys* database, KeyDraft* drafts, int count, SlotPlaces* places)
{
	// A checkpoint waits for the flag below only in processes that have a virtual transaction.
	if (!LocalTransactionIdIsValid(MyProc->lxid))
		elog(ERROR, "key records are written inside a transaction");
	auto* keys = static_cast<SlotKey*>(palloc(sizeof(SlotKey) * count));
	for (int i = 0; i < count; ++i)
		keys[i] = slot_key(*database, drafts[i].node);
	keymap_place_slots(database, keys, count, places);
	database->max_version = Max(database->max_version, first_version_of_timeline());
	auto* records = static_cast<KeyUpsertRecord*>(palloc(sizeof(KeyUpsertRecord) * count));
	for (int i = 0; i < count; ++i) {
		KeySlot& slot = drafts[i].slot;
		slot.tablespace = keys[i].tablespace;
		slot.rel_node = keys[i].rel_node;
		slot.version = ++database->max_version;
		finish(&drafts[i]);
		records[i] = {database->database, database->default_tablespace, slot};
	}
	pfree(keys);
	return records;
}

// The same; seeds are wiped however it ends.
KeyUpsertRecord* prepare_and_wipe(DatabaseKeys* database, KeyDraft* drafts, int count, SlotPlaces* places)
{
	KeyUpsertRecord* volatile records = nullptr;
	PG_TRY();
	{
		records = prepare(database, drafts, count, places);
	}
	PG_CATCH();
	{
		wipe_seeds(drafts, count);
		PG_RE_THROW();
	}
	PG_END_TRY();
	wipe_seeds(drafts, count);
	return records;
}

} // namespace

void key_drafts_write(DatabaseKeys* database, KeyDraft* drafts, int count, bool flush)
{
	SlotPlaces places;
	KeyUpsertRecord* const records = prepare_and_wipe(database, drafts, count, &places);
	crash_point("keymap.before_insert");

	START_CRIT_SECTION();
	Assert((MyProc->delayChkptFlags & DELAY_CHKPT_START) == 0);
	MyProc->delayChkptFlags |= DELAY_CHKPT_START;
	for (int i = 0; i < count; ++i) {
		XLogBeginInsert();
		XLogRegisterData(reinterpret_cast<char*>(&records[i]), sizeof records[i]);
		drafts[i].lsn = XLogInsert(kRmgrId, kXlogKeyUpsert);
		drafts[i].took_effect = keymap_takes_effect(drafts[i].slot, drafts[i].lsn);
		crash_point("keymap.after_insert");
	}
	if (flush) {
		XLogFlush(drafts[count - 1].lsn);
		crash_point("keymap.after_flush");
	}
	for (int i = 0; i < count; ++i)
		if (drafts[i].took_effect)
			keymap_set_slot(&places.slots[i], drafts[i].slot, drafts[i].lsn);
	keymap_write_places_crit(*database, places);
	crash_point("keymap.before_publish");
	keymap_publish_places(*database, places, database->max_version);
	MyProc->delayChkptFlags &= ~DELAY_CHKPT_START;
	END_CRIT_SECTION();
	crash_point("keymap.after_publish");

	keymap_release_places(*database, &places, database->max_version);
	pfree(records);
}

void key_drafts_database(Oid oid, DatabaseKeys* out)
{
	if (!keymap_load(oid, InvalidOid, true, ERROR, out))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_DATABASE), errmsg("the directory of database %u was not found", oid),
		                errhint("Is the file system of its tablespace mounted?")));
}

bool key_drafts_read(const DatabaseKeys& database, const RelFileNode& node, KeySlot* slot)
{
	if (database.pages == 0)
		return false;
	const SlotKey key = slot_key(database, node);
	char path[MAXPGPATH];
	key_file_path(database.database, database.default_tablespace, path);
	const int fd = key_file_open(path, false, false);
	if (fd < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open key file \"%s\": %m", path)));
	const uint32 number = keymap_locate(database, key, fd, path);
	if (number != kNoSlot)
		key_file_read_slot(fd, path, number, slot);
	key_file_close(fd);
	return number != kNoSlot && slot_is_for(*slot, key);
}

} // namespace seal::pg
