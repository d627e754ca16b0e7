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
#include <sys/stat.h>
#include <unistd.h>

namespace seal::pg {

namespace {

alignas(8) uint8 scan_page[kPageSize];

} // namespace

void keymap_forget_database(Oid database) noexcept
{
	LWLockAcquire(seal_lock(Lock::keymap), LW_EXCLUSIVE);
	key_index_forget_database_locked(database);
	LWLockRelease(seal_lock(Lock::keymap));
}

namespace {

// For a file that has only been read: what it holds may be in the operating system's memory alone.
bool make_durable(const char* path)
{
	const int fd = key_file_open(path, true, false);
	const bool ok = fd >= 0 && pg_fsync(fd) == 0;
	if (!ok)
		ereport(LOG, (errcode_for_file_access(), errmsg("could not fsync key file \"%s\": %m", path)));
	if (fd >= 0)
		key_file_close(fd);
	return ok;
}

// Exchanged, missing or rolled-back key files. Asked outside recovery only: in it, file and record may come
// from different moments of a backup.
bool identity_holds(const DatabaseKeys& database, const char* path, int elevel)
{
	const KeyFileIdentity known = key_file_identity(database.database);
	if (known.known == 0) {
		if (database.pages > 0 && make_durable(path))
			keymap_remember(database, database.max_version);
		return true;
	}
	const char* wrong = nullptr;
	if (database.pages == 0)
		wrong = "is missing";
	else if (memcmp(known.file_id, database.file_id, sizeof known.file_id) != 0)
		wrong = "belongs to another database";
	else if (database.max_version < known.max_version)
		wrong = "is older than one this server has already used";
	if (!wrong) {
		keymap_remember_file(database); // it may have moved
		return true;
	}
	ereport(elevel, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("key file \"%s\" %s", path, wrong),
	                 errdetail("The file was exchanged, removed or put back from an older copy."),
	                 errhint("Put the newest key file of database %u back in its place. If there is none newer, stop the server and remove the "
	                         "file \"pg_seal/keyfiles\": the server then accepts the key files it finds.",
	                         database.database)));
	return false;
}

// A crash while the file grew can leave half a page at its end, which stock tools refuse. The rest of it is filled with zeroes: what was in it came
// after the last checkpoint, and redo brings it again. Under Lock::keymap_writer.
void mend_length(const char* path)
{
	struct stat st;
	if (stat(path, &st) != 0 || st.st_size % BLCKSZ == 0)
		return;
	const int fd = key_file_open(path, true, false);
	if (fd < 0 || ftruncate(fd, st.st_size / BLCKSZ * BLCKSZ + BLCKSZ) != 0 || pg_fsync(fd) != 0)
		ereport(LOG, (errcode_for_file_access(), errmsg("could not write key file \"%s\": %m", path)));
	else
		ereport(LOG, (errmsg("the last page of key file \"%s\" was cut short", path), errdetail("A crash may have kept it from being written.")));
	if (fd >= 0)
		key_file_close(fd);
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
		keymap_forget_database(oid);

	DatabaseKeys database = {};
	database.database = oid;
	database.default_tablespace = key_file_default_tablespace(oid, tablespace_hint);
	if (!OidIsValid(database.default_tablespace))
		database.default_tablespace = tablespace_hint;
	if (!OidIsValid(database.default_tablespace))
		return false;

	char path[MAXPGPATH];
	key_file_path(oid, database.default_tablespace, path);
	mend_length(path);
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
			if (slot_is_for(*candidate, key))
				result = number * kSlotsPerPage + static_cast<uint32>(i);
		}
	}
	pfree(page);
	return result;
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

void keymap_remember_file(const DatabaseKeys& database)
{
	const KeyFileIdentity known = key_file_identity(database.database);
	const bool same = known.known != 0 && memcmp(known.file_id, database.file_id, sizeof known.file_id) == 0;
	if (!same || known.default_tablespace != database.default_tablespace)
		keymap_remember(database, same ? known.max_version : 0);
}

} // namespace seal::pg
