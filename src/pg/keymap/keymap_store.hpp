// What the keymap's parts share: the shared lock discipline around index and file. Internal to src/pg/keymap.
#pragma once

#include "key_file.hpp"
#include "key_index.hpp"
#include "keymap.hpp"

extern "C" {
#include "storage/lwlock.h"
}

namespace seal::pg {

// On the wire in WAL: never renumber, never grow without a new record type.
struct KeyUpsertRecord {
	Oid database;
	Oid default_tablespace; // where the key file is, should the directory be gone when this is replayed
	KeySlot slot;
};
static_assert(sizeof(KeyUpsertRecord) == 8 + kSlotSize);

// Reads the database's key file into the index if it is not there yet. Takes Lock::keymap_writer unless `writer_held`. False: the
// database has no directory, or (elevel < ERROR) the file could not be read.
bool keymap_load(Oid database, Oid tablespace_hint, bool writer_held, int elevel, DatabaseKeys* out);

inline SlotKey slot_key(const DatabaseKeys& database, const RelFileNode& node) noexcept
{
	return {database.database, node.spcNode == database.default_tablespace ? InvalidOid : node.spcNode, node.relNode};
}
// The slot number of a relation, by the index or, for an overflowed database, by reading the file. kNoSlot: none.
uint32 keymap_locate(const DatabaseKeys& database, const SlotKey& key, int fd, const char* path);

// An open key file and the page that holds one slot: what a writer changes and writes back.
struct SlotPlace {
	char path[MAXPGPATH];
	int fd;
	uint32 slot;
	uint8* page; // static buffer, owned by Lock::keymap_writer
	KeySlot* target() const noexcept { return key_page_slot(page, slot % kSlotsPerPage); }
	uint32 page_number() const noexcept { return slot / kSlotsPerPage; }
};
// Finds the relation's slot or a free one, growing (and creating) the file as needed; durable before it returns. ERROR on failure.
// Updates pages, file_id and free_hint in `database` and the index.
SlotPlace keymap_place_slot(DatabaseKeys* database, const SlotKey& key);
// Writes the place's page and makes it durable. PANIC on failure: WAL already says so. For critical sections and redo.
void keymap_write_crit(const SlotPlace& place, XLogRecPtr lsn);
// Turns a slot into a tombstone (WARNING at most, no fsync: a lost one only leaves a record behind). In redo a slot that is newer than
// what is being replayed stays. Under Lock::keymap_writer.
void keymap_bury(const DatabaseKeys& database, const SlotKey& key, uint32 slot, XLogRecPtr lsn, bool redo) noexcept;
bool keymap_raw_copy_running_locked() noexcept; // under Lock::keymap_writer
// Notes the key file's id, highest version and place in pg_seal/keyfiles (WARNING at most). After the key file is durable.
void keymap_remember(const DatabaseKeys& database, uint64 max_version) noexcept;
// Makes the written slot visible to every process. Allowed in a critical section.
void keymap_publish(const DatabaseKeys& database, const SlotKey& key, const SlotPlace& place) noexcept;

} // namespace seal::pg
