// The reaper: wipes the key records of relations that are gone, and finds records whose relation never came to be (a crash between
// key record and file).
//
// A tombstone is wiped only when its relation's file is certainly gone and no redo can need its key any more: its LSN lies before the redo start of a completed checkpoint or
// restart point (pg_control), and pg_seal.tombstone_retention has passed, for base backups that are still being taken. Wiping erases
// this node's copy of the wrapped DEK; copies in WAL, archives and backups fall only with their keyring key or KEK.
#include "keymap.hpp"

#include "../guc.hpp"
#include "../shmem.hpp"
#include "../xlog.hpp"
#include "keymap_store.hpp"

extern "C" {
#include "access/xlog.h"
#include "common/relpath.h"
#include "postmaster/bgwriter.h"
#include "storage/bufpage.h"
#include "storage/fd.h"
}

#include <ctime>
#include <sys/stat.h>

namespace seal::pg {

namespace {

constexpr uint32 kOrphanAge = 3600; // seconds: far longer than a record can wait for its file

// Is the relation's file certainly gone? Only "no such file" in a directory that is there counts: a tablespace that is not mounted,
// or an I/O error, must not cost a key.
bool file_gone(const DatabaseKeys& database, const KeySlot& slot)
{
	char directory[MAXPGPATH];
	struct stat st;
	if (OidIsValid(slot.tablespace)) {
		snprintf(directory, sizeof directory, "pg_tblspc/%u/%s", slot.tablespace, TABLESPACE_VERSION_DIRECTORY);
		if (stat(directory, &st) != 0) {
			snprintf(directory, sizeof directory, "pg_tblspc/%u", slot.tablespace);
			return lstat(directory, &st) != 0 && errno == ENOENT; // dropped, not merely away
		}
	}
	char* path = relpathperm(slot_node(database, slot), MAIN_FORKNUM);
	const bool gone = stat(path, &st) != 0 && errno == ENOENT;
	pfree(path);
	return gone;
}

struct Pass {
	XLogRecPtr redo_start;
	uint32 now, retention;
	uint32 only_keyring; // 0: all
};

bool may_wipe(const Pass& pass, const KeySlot& slot) noexcept
{
	return slot.dropped_lsn != 0 && slot.dropped_lsn < pass.redo_start && pass.now >= slot.dropped_at + pass.retention &&
	       (pass.only_keyring == 0 || slot.keyring_id == pass.only_keyring);
}

// Before the slot with the highest version goes, page 0 remembers that version: versions never start again from below.
bool remember_max_version(const DatabaseKeys& database, int fd, const char* path)
{
	alignas(8) static uint8 page[kPageSize];
	if (!key_file_read_page(fd, path, 0, page, database.file_id, WARNING))
		return false;
	auto* info = reinterpret_cast<KeyFilePageInfo*>(page + kPageHeaderSize);
	if (info->max_version >= database.max_version)
		return true;
	info->max_version = database.max_version;
	return key_file_write_page(fd, 0, page) && pg_fsync(fd) == 0;
}

int reap_page(const Pass& pass, DatabaseKeys& database, int fd, const char* path, uint32 number, bool* remembered)
{
	alignas(8) static uint8 page[kPageSize];
	if (!key_file_read_page(fd, path, number, page, database.file_id, WARNING))
		return 0;
	int wiped = 0, buried = 0;
	for (std::size_t i = 0; i < kSlotsPerPage; ++i) {
		KeySlot* slot = key_page_slot(page, i);
		if (slot->state == SlotState::free)
			continue;
		if (slot->dropped_lsn == 0 && slot->record_lsn < pass.redo_start && pass.now >= slot->created_at + kOrphanAge &&
		    !RecoveryInProgress() && file_gone(database, *slot)) {
			slot->dropped_lsn = GetXLogInsertRecPtr();
			slot->dropped_at = pass.now;
			++buried;
		}
		if (!may_wipe(pass, *slot))
			continue;
		// The server keeps a dropped relation's empty file until the next checkpoint, which is behind us. A file that is there now
		// belongs to a live relation: the mark was wrong (altered, or set while the tablespace was away), or redo made the file again.
		if (!file_gone(database, *slot)) {
			slot->dropped_lsn = 0;
			slot->dropped_at = slot->state == SlotState::finished ? pass.now : 0; // the old key's time begins anew
			++buried;
			continue;
		}
		if (!*remembered && !(*remembered = remember_max_version(database, fd, path)))
			return wiped;
		if (number == 0) // page 0 was just changed on disk: keep what it remembers
			reinterpret_cast<KeyFilePageInfo*>(page + kPageHeaderSize)->max_version = database.max_version;
		const SlotKey key = {database.database, slot->tablespace, slot->rel_node};
		memset(slot, 0, sizeof *slot);
		LWLockAcquire(seal_lock(Lock::keymap), LW_EXCLUSIVE);
		key_index_remove_locked(key);
		if (DatabaseKeys* entry = key_index_database_locked(database.database))
			entry->free_hint = Min(entry->free_hint, number * static_cast<uint32>(kSlotsPerPage) + static_cast<uint32>(i));
		LWLockRelease(seal_lock(Lock::keymap));
		key_index_bump_epoch(key.rel_node);
		++wiped;
	}
	if (wiped + buried > 0 && !key_file_write_page(fd, number, page))
		ereport(WARNING, (errcode_for_file_access(), errmsg("could not write key file \"%s\": %m", path)));
	return wiped;
}

int reap(Oid oid, uint32 retention, uint32 only_keyring)
{
	const Pass pass = {completed_redo_start(), static_cast<uint32>(time(nullptr)), retention, only_keyring};
	DatabaseKeys database;
	int wiped = 0;
	bool remembered = false;
	if (!keymap_load(oid, InvalidOid, false, WARNING, &database) || database.pages == 0)
		return 0;
	char path[MAXPGPATH];
	key_file_path(database.database, database.default_tablespace, path);
	// A page at a time: writers get the lock in between. The database may go away in between too: then the file does not open.
	for (uint32 number = 0; number < database.pages; ++number) {
		LWLockAcquire(seal_lock(Lock::keymap_writer), LW_EXCLUSIVE);
		DatabaseKeys now;
		const bool usable = !keymap_raw_copy_running_locked() && keymap_load(oid, InvalidOid, true, WARNING, &now) &&
		                    now.default_tablespace == database.default_tablespace && number < now.pages;
		const int fd = usable ? key_file_open(path, true, false) : -1;
		if (fd >= 0) {
			const int here = reap_page(pass, now, fd, path, number, &remembered);
			if (here > 0 && pg_fsync(fd) != 0)
				ereport(WARNING, (errcode_for_file_access(), errmsg("could not fsync key file \"%s\": %m", path)));
			wiped += here;
			key_file_close(fd);
		}
		LWLockRelease(seal_lock(Lock::keymap_writer));
		if (!usable)
			break;
	}
	return wiped;
}

struct KeyringUse {
	uint32 keyring_id;
	int live, buried;
};

void count_keyring(Oid database, Oid default_tablespace, void* arg)
{
	auto* use = static_cast<KeyringUse*>(arg);
	char path[MAXPGPATH];
	key_file_path(database, default_tablespace, path);
	const int fd = key_file_open(path, false, false);
	if (fd < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open key file \"%s\": %m", path)));
	uint8* page = static_cast<uint8*>(palloc(kPageSize));
	const uint8 no_id[16] = {};
	const uint32 pages = key_file_pages(fd, path);
	for (uint32 number = 0; number < pages; ++number) {
		key_file_read_page(fd, path, number, page, no_id, ERROR);
		for (std::size_t i = 0; i < kSlotsPerPage; ++i) {
			const KeySlot* slot = key_page_slot(page, i);
			if (slot->state != SlotState::free && slot->keyring_id == use->keyring_id && slot_cipher(*slot) != CipherId::none)
				++(slot->dropped_lsn == 0 ? use->live : use->buried);
		}
	}
	pfree(page);
	key_file_close(fd);
}

void reap_keyring(Oid database, Oid, void* arg) { reap(database, 0, *static_cast<uint32*>(arg)); }

} // namespace

int keymap_reap(Oid database) { return reap(database, static_cast<uint32>(guc_tombstone_retention_s), 0); }

bool keymap_any_slot_of_keyring(uint32 keyring_id)
{
	KeyringUse use = {keyring_id, 0, 0};
	key_file_walk(count_keyring, &use);
	return use.live + use.buried > 0;
}

void keymap_purge_keyring(uint32 keyring_id)
{
	KeyringUse use = {keyring_id, 0, 0};
	key_file_walk(count_keyring, &use);
	if (use.live > 0 || use.buried == 0)
		return;
	// Only dropped relations are left. After a checkpoint no redo needs their keys, so their records can go now.
	RequestCheckpoint(CHECKPOINT_IMMEDIATE | CHECKPOINT_FORCE | CHECKPOINT_WAIT);
	key_file_walk(reap_keyring, &keyring_id);
}

} // namespace seal::pg
