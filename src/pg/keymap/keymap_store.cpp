#include "keymap_store.hpp"

#include "../shmem.hpp"
#include "../xlog.hpp"
#include "key_file_ids.hpp"

extern "C" {
#include "access/xlog.h"
#include "storage/bufpage.h"
#include "storage/fd.h"
#include "utils/memutils.h"
}

#include <cstring>

namespace seal::pg {

namespace {

constexpr uint8 kNoFileId[16] = {};
alignas(8) uint8 place_page[kPageSize];
alignas(8) uint8 scan_page[kPageSize];

bool slot_is_for(const KeySlot& slot, const SlotKey& key) noexcept
{
	return slot.state != SlotState::free && slot.rel_node == key.rel_node && slot.tablespace == key.tablespace;
}

void forget_database(Oid database) noexcept
{
	LWLockAcquire(seal_lock(Lock::keymap), LW_EXCLUSIVE);
	key_index_forget_database_locked(database);
	LWLockRelease(seal_lock(Lock::keymap));
}

// Exchanged, missing or rolled-back key files. Asked outside recovery only: in it, file and record may come
// from different moments of a backup.
bool identity_holds(const DatabaseKeys& database, const char* path, int elevel)
{
	KeyFileIdentity known = key_file_identity(database.database);
	if (known.known == 0) {
		if (database.pages > 0) {
			known.known = 1;
			memcpy(known.file_id, database.file_id, sizeof known.file_id);
			known.max_version = database.max_version;
			known.default_tablespace = database.default_tablespace;
			key_file_remember(known);
		}
		return true;
	}
	const char* wrong = nullptr;
	if (database.pages == 0)
		wrong = "is missing";
	else if (memcmp(known.file_id, database.file_id, sizeof known.file_id) != 0)
		wrong = "belongs to another database";
	else if (database.max_version < known.max_version)
		wrong = "is older than one this server has already used";
	if (!wrong)
		return true;
	ereport(elevel, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("key file \"%s\" %s", path, wrong),
	                 errdetail("The file was exchanged, removed or put back from an older copy."),
	                 errhint("Put the newest key file of database %u back in its place. If there is none newer, stop the server and remove the "
	                         "file \"pg_seal/keyfiles\": the server then accepts the key files it finds.",
	                         database.database)));
	return false;
}

// A crash can tear a page between sectors: every record is whole, but the checksum, for which stock tools look, may be the other
// version's. Redo leaves a record alone that is there already, and tombstones are not logged, so the checksum is mended here. Under Lock::keymap_writer.
void mend_torn_page(const char* path, uint32 number, uint8* page)
{
	const int fd = key_file_open(path, true, false);
	if (fd < 0 || !key_file_write_page(fd, number, page) || pg_fsync(fd) != 0)
		ereport(LOG, (errcode_for_file_access(), errmsg("could not write key file \"%s\": %m", path)));
	if (fd >= 0)
		key_file_close(fd);
}

// Reads every slot into the index, then makes the database known.
bool read_into_index(DatabaseKeys* database, const char* path, int fd, int elevel)
{
	database->pages = key_file_pages(fd, path);
	database->free_hint = UINT32_MAX;
	for (uint32 page = 0; page < database->pages; ++page) {
		if (!key_file_read_page(fd, path, page, scan_page, database->file_id, elevel))
			return false;
		const auto* header = reinterpret_cast<const PageHeaderData*>(scan_page);
		const auto* info = reinterpret_cast<const KeyFilePageInfo*>(scan_page + kPageHeaderSize);
		if (page == 0) {
			memcpy(database->file_id, info->file_id, sizeof database->file_id);
			database->max_version = info->max_version;
		}
		if (header->pd_checksum != page_checksum(scan_page, page)) {
			ereport(LOG, (errmsg("page %u of key file \"%s\" has a wrong checksum", page, path),
			              errdetail("A crash may have torn the page; each key record is verified by itself when it is used.")));
			mend_torn_page(path, page, scan_page);
		}
		LWLockAcquire(seal_lock(Lock::keymap), LW_EXCLUSIVE);
		for (std::size_t i = 0; i < kSlotsPerPage; ++i) {
			const KeySlot* slot = key_page_slot(scan_page, i);
			const uint32 number = page * kSlotsPerPage + static_cast<uint32>(i);
			if (slot->state == SlotState::free) {
				database->free_hint = Min(database->free_hint, number);
				continue;
			}
			database->max_version = Max(database->max_version, slot->version);
			if (!key_index_put_locked({database->database, slot->tablespace, slot->rel_node}, number))
				database->overflow = true;
		}
		LWLockRelease(seal_lock(Lock::keymap));
	}
	database->free_hint = Min(database->free_hint, database->pages * static_cast<uint32>(kSlotsPerPage));
	return true;
}

} // namespace

bool keymap_load(Oid oid, Oid tablespace_hint, bool writer_held, int elevel, DatabaseKeys* out)
{
	LWLockAcquire(seal_lock(Lock::keymap), LW_SHARED);
	const DatabaseKeys* known = key_index_database_locked(oid);
	if (known)
		*out = *known;
	LWLockRelease(seal_lock(Lock::keymap));
	// A session knows its own database's default tablespace; an index made from another directory (one that a crash in ALTER DATABASE
	// SET TABLESPACE left behind) is wrong. One read in recovery was not verified: recovery is over now.
	const bool misplaced = known && oid == MyDatabaseId && OidIsValid(MyDatabaseTableSpace) && out->default_tablespace != MyDatabaseTableSpace;
	const bool unverified = known && !out->verified && !RecoveryInProgress();
	if (known && !misplaced && !unverified)
		return true;

	if (!writer_held) {
		LWLockAcquire(seal_lock(Lock::keymap_writer), LW_EXCLUSIVE);
		const bool ok = keymap_load(oid, tablespace_hint, true, elevel, out);
		LWLockRelease(seal_lock(Lock::keymap_writer));
		return ok;
	}

	if (misplaced || unverified)
		forget_database(oid);

	DatabaseKeys database = {};
	database.database = oid;
	database.default_tablespace = key_file_default_tablespace(oid, tablespace_hint);
	if (!OidIsValid(database.default_tablespace))
		database.default_tablespace = tablespace_hint;
	if (!OidIsValid(database.default_tablespace))
		return false;

	char path[MAXPGPATH];
	key_file_path(oid, database.default_tablespace, path);
	const int fd = key_file_open(path, false, false);
	if (fd < 0 && errno != ENOENT) {
		ereport(elevel, (errcode_for_file_access(), errmsg("could not open key file \"%s\": %m", path)));
		return false;
	}
	bool ok = true;
	if (fd >= 0) {
		ok = read_into_index(&database, path, fd, elevel);
		key_file_close(fd);
	}
	database.verified = !RecoveryInProgress();
	ok = ok && (!database.verified || identity_holds(database, path, elevel));
	if (!ok)
		return false;

	LWLockAcquire(seal_lock(Lock::keymap), LW_EXCLUSIVE);
	DatabaseKeys* entry = key_index_add_database_locked(oid);
	database.in_use = true;
	*entry = database;
	LWLockRelease(seal_lock(Lock::keymap));
	*out = database;
	return true;
}

uint32 keymap_locate(const DatabaseKeys& database, const SlotKey& key, int fd, const char* path)
{
	LWLockAcquire(seal_lock(Lock::keymap), LW_SHARED);
	const uint32 slot = key_index_find_locked(key);
	LWLockRelease(seal_lock(Lock::keymap));
	if (slot != kNoSlot || !database.overflow || fd < 0)
		return slot;

	uint8* page = static_cast<uint8*>(palloc(kPageSize));
	uint32 result = kNoSlot;
	for (uint32 number = 0; number < database.pages && result == kNoSlot; ++number) {
		key_file_read_page(fd, path, number, page, database.file_id, ERROR);
		for (std::size_t i = 0; i < kSlotsPerPage; ++i) {
			const KeySlot* candidate = key_page_slot(page, i);
			if (candidate->state != SlotState::free && candidate->rel_node == key.rel_node &&
			    candidate->tablespace == key.tablespace)
				result = number * kSlotsPerPage + static_cast<uint32>(i);
		}
	}
	pfree(page);
	return result;
}

namespace {

uint32 find_free_slot(const DatabaseKeys& database, int fd, const char* path)
{
	for (uint32 slot = database.free_hint; slot < database.pages * kSlotsPerPage;) {
		const uint32 page = slot / kSlotsPerPage;
		key_file_read_page(fd, path, page, place_page, database.file_id, ERROR);
		for (; slot / kSlotsPerPage == page; ++slot)
			if (key_page_slot(place_page, slot % kSlotsPerPage)->state == SlotState::free)
				return slot;
	}
	return database.pages * kSlotsPerPage;
}

void remember_shape(const DatabaseKeys& database) noexcept
{
	LWLockAcquire(seal_lock(Lock::keymap), LW_EXCLUSIVE);
	if (DatabaseKeys* entry = key_index_database_locked(database.database)) {
		entry->pages = database.pages;
		entry->free_hint = database.free_hint;
		memcpy(entry->file_id, database.file_id, sizeof entry->file_id);
	}
	LWLockRelease(seal_lock(Lock::keymap));
}

} // namespace

SlotPlace keymap_place_slot(DatabaseKeys* database, const SlotKey& key)
{
	SlotPlace place;
	key_file_path(database->database, database->default_tablespace, place.path);
	place.page = place_page;
	place.fd = key_file_open(place.path, true, true);
	if (place.fd < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open key file \"%s\": %m", place.path)));

	// The index may have been read from a file that was still being copied: never grow, cut or place by a size that is not the file's.
	if (key_file_pages(place.fd, place.path) != database->pages) {
		forget_database(database->database);
		DatabaseKeys again;
		if (!keymap_load(database->database, database->default_tablespace, true, ERROR, &again) ||
		    key_file_pages(place.fd, place.path) != again.pages)
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("key file \"%s\" changes under the server", place.path)));
		*database = again;
	}
	place.slot = keymap_locate(*database, key, place.fd, place.path);
	if (place.slot != kNoSlot) {
		key_file_read_page(place.fd, place.path, place.page_number(), place.page, database->file_id, ERROR);
		if (!slot_is_for(*place.target(), key)) { // a stale index entry: that slot is another relation's, or free
			LWLockAcquire(seal_lock(Lock::keymap), LW_EXCLUSIVE);
			key_index_remove_locked(key);
			LWLockRelease(seal_lock(Lock::keymap));
			place.slot = kNoSlot;
		}
	}
	if (place.slot == kNoSlot) {
		if (database->pages == 0 && !pg_strong_random(database->file_id, sizeof database->file_id))
			ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random bytes")));
		place.slot = find_free_slot(*database, place.fd, place.path);
		if (place.page_number() >= database->pages) {
			const uint32 more = Min(Max(database->pages / 8, 1u), 32u);
			key_file_grow(place.fd, place.path, database->pages, more, database->file_id);
			database->pages += more;
		}
		database->free_hint = place.slot; // still free until it is written
		remember_shape(*database);
	}
	key_file_read_page(place.fd, place.path, place.page_number(), place.page, database->file_id, ERROR);
	if (place.target()->state != SlotState::free && !slot_is_for(*place.target(), key))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("slot %u of key file \"%s\" is taken", place.slot, place.path)));
	return place;
}

void keymap_write_crit(const SlotPlace& place, XLogRecPtr lsn)
{
	PageSetLSN(reinterpret_cast<Page>(place.page), lsn);
	if (!key_file_write_page(place.fd, place.page_number(), place.page))
		ereport(PANIC, (errcode_for_file_access(), errmsg("could not write key file \"%s\": %m", place.path)));
	if (crash_point("keymap.before_fsync") || pg_fsync(place.fd) != 0)
		ereport(PANIC, (errcode_for_file_access(), errmsg("could not fsync key file \"%s\": %m", place.path)));
}

void keymap_remember(const DatabaseKeys& database, uint64 max_version) noexcept
{
	KeyFileIdentity identity = {};
	identity.database = database.database;
	identity.known = 1;
	memcpy(identity.file_id, database.file_id, sizeof identity.file_id);
	identity.max_version = max_version;
	identity.default_tablespace = database.default_tablespace;
	key_file_remember(identity);
}

void keymap_publish(const DatabaseKeys& database, const SlotKey& key, const SlotPlace& place) noexcept
{
	LWLockAcquire(seal_lock(Lock::keymap), LW_EXCLUSIVE);
	DatabaseKeys* entry = key_index_database_locked(database.database);
	if (entry) {
		if (!key_index_put_locked(key, place.slot))
			entry->overflow = true;
		entry->max_version = Max(entry->max_version, place.target()->version);
		if (entry->free_hint == place.slot)
			entry->free_hint = place.slot + 1;
	}
	LWLockRelease(seal_lock(Lock::keymap));
	key_index_bump_epoch(key.rel_node);
}

} // namespace seal::pg
