#include "keymap.hpp"

#include "../shmem.hpp"
#include "key_file_ids.hpp"
#include "keymap_store.hpp"
#include "transition.hpp"

extern "C" {
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "common/relpath.h"
}

#include <cstring>

namespace seal::pg {

Size keymap_shmem_size() { return key_index_shmem_size() + sizeof(int); }

namespace {
int* raw_copies; // redo is copying database directories: the reaper stays away (under Lock::keymap_writer)
}

void keymap_shmem_init(void* memory)
{
	key_index_init(memory);
	raw_copies = reinterpret_cast<int*>(static_cast<char*>(memory) + key_index_shmem_size());
	*raw_copies = 0;
}

uint32 keymap_epoch(const RelFileNode& node) noexcept { return key_index_epoch(node.relNode); }

Lookup keymap_find(const RelFileNode& node, KeySlot* slot)
{
	// A slot can be wiped and taken by another relation between the index and the file: then look again.
	for (int attempt = 0; attempt < 3; ++attempt) {
		DatabaseKeys database;
		if (!keymap_load(node.dbNode, InvalidOid, false, ERROR, &database)) {
			if (!RecoveryInProgress())
				ereport(ERROR, (errcode(ERRCODE_UNDEFINED_DATABASE), errmsg("the directory of database %u was not found", node.dbNode),
				                errhint("Is the file system of its tablespace mounted?")));
			return Lookup::absent; // a later record drops the database
		}
		if (database.pages == 0)
			return Lookup::absent;
		const SlotKey key = slot_key(database, node);
		LWLockAcquire(seal_lock(Lock::keymap), LW_SHARED);
		uint32 number = key_index_find_locked(key);
		LWLockRelease(seal_lock(Lock::keymap));
		if (number == kNoSlot && !database.overflow)
			return Lookup::absent;

		char path[MAXPGPATH];
		key_file_path(database.database, database.default_tablespace, path);
		const int fd = key_file_open(path, false, false);
		if (fd < 0)
			ereport(ERROR, (errcode_for_file_access(), errmsg("could not open key file \"%s\": %m", path)));
		if (number == kNoSlot)
			number = keymap_locate(database, key, fd, path);
		if (number == kNoSlot) {
			key_file_close(fd);
			return Lookup::absent;
		}
		key_file_read_slot(fd, path, number, slot);
		key_file_close(fd);
		if (slot_is_for(*slot, key))
			return Lookup::found;
	}
	return Lookup::absent;
}

void keymap_tombstone(const RelFileNode& node, bool redo) noexcept
{
	DatabaseKeys database;
	LWLockAcquire(seal_lock(Lock::keymap_writer), LW_EXCLUSIVE);
	if (redo)
		vault_throwaway_forget(relation_id(node));
	if (keymap_load(node.dbNode, InvalidOid, true, WARNING, &database) && database.pages > 0) {
		const SlotKey key = slot_key(database, node);
		LWLockAcquire(seal_lock(Lock::keymap), LW_SHARED);
		const uint32 number = key_index_find_locked(key);
		LWLockRelease(seal_lock(Lock::keymap));
		if (number != kNoSlot)
			keymap_bury(database, key, number, redo ? GetXLogReplayRecPtr(nullptr) : GetXLogInsertRecPtr(), redo);
	}
	transition_forget(node);
	LWLockRelease(seal_lock(Lock::keymap_writer));
}

void keymap_describe(StringInfo out, const char* data, uint32 size)
{
	KeyUpsertRecord record;
	if (size != sizeof record) {
		appendStringInfo(out, "%u bytes", size);
		return;
	}
	memcpy(&record, data, sizeof record);
	appendStringInfo(out, "database %u tablespace %u rel %u version " UINT64_FORMAT " keyring %u state %u", record.database,
	                 record.slot.tablespace, record.slot.rel_node, record.slot.version, record.slot.keyring_id,
	                 static_cast<unsigned>(record.slot.state));
}

void keymap_recovery_ended()
{
	LWLockAcquire(seal_lock(Lock::keymap_writer), LW_EXCLUSIVE);
	LWLockAcquire(seal_lock(Lock::keymap), LW_EXCLUSIVE);
	key_index_forget_all_locked();
	LWLockRelease(seal_lock(Lock::keymap));
	LWLockRelease(seal_lock(Lock::keymap_writer));
}

void keymap_unload_database(Oid database)
{
	LWLockAcquire(seal_lock(Lock::keymap_writer), LW_EXCLUSIVE);
	transition_forget_database(database);
	keymap_forget_database(database);
	LWLockRelease(seal_lock(Lock::keymap_writer));
}

void keymap_database_dropped(Oid database) noexcept
{
	keymap_unload_database(database);
	LWLockAcquire(seal_lock(Lock::keymap_writer), LW_EXCLUSIVE);
	key_file_forget(database);
	LWLockRelease(seal_lock(Lock::keymap_writer));
	vault_throwaway_forget_database(database);
}

void keymap_raw_copy(bool begins)
{
	LWLockAcquire(seal_lock(Lock::keymap_writer), LW_EXCLUSIVE);
	*raw_copies += begins ? 1 : -1;
	LWLockRelease(seal_lock(Lock::keymap_writer));
}

bool keymap_raw_copy_running_locked() noexcept { return *raw_copies > 0; }

void keymap_visit(Oid oid, SlotVisitor visit, void* arg)
{
	DatabaseKeys database;
	if (!keymap_load(oid, InvalidOid, false, ERROR, &database) || database.pages == 0)
		return;
	char path[MAXPGPATH];
	key_file_path(database.database, database.default_tablespace, path);
	const int fd = key_file_open(path, false, false);
	if (fd < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open key file \"%s\": %m", path)));
	uint8* page = static_cast<uint8*>(palloc(kPageSize));
	for (uint32 number = 0; number < database.pages; ++number) {
		key_file_read_page(fd, path, number, page, database.file_id, ERROR);
		for (std::size_t i = 0; i < kSlotsPerPage; ++i) {
			const KeySlot* slot = key_page_slot(page, i);
			if (slot->state != SlotState::free && slot->dropped_lsn == 0)
				visit(*slot, arg);
		}
		CHECK_FOR_INTERRUPTS();
	}
	pfree(page);
	key_file_close(fd);
}

} // namespace seal::pg
