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

void keymap_forget_database(Oid database) noexcept; // the index over it, not the file

inline SlotKey slot_key(const DatabaseKeys& database, const RelFileNode& node) noexcept
{
	return {database.database, node.spcNode == database.default_tablespace ? InvalidOid : node.spcNode, node.relNode};
}
// The relation that a slot of this database is about: slot_key() turned round.
inline RelFileNode slot_node(const DatabaseKeys& database, const KeySlot& slot) noexcept
{
	return {.spcNode = OidIsValid(slot.tablespace) ? slot.tablespace : database.default_tablespace,
	        .dbNode = database.database,
	        .relNode = slot.rel_node};
}
inline bool slot_is_for(const KeySlot& slot, const SlotKey& key) noexcept
{
	return slot.state != SlotState::free && slot.rel_node == key.rel_node && slot.tablespace == key.tablespace;
}
// The slot number of a relation, by the index or, for an overflowed database, by reading the file. kNoSlot: none.
uint32 keymap_locate(const DatabaseKeys& database, const SlotKey& key, int fd, const char* path);

// Slots that are changed together: the key file is open, their pages are in memory, several slots may share one. Allocated in the caller's
// memory context; keymap_release_places() closes the file and frees them.
struct PlacedPage {
	uint32 number;
	bool changed; // to be written
	XLogRecPtr lsn;
	uint8* bytes;
};
struct PlacedSlot {
	SlotKey key;
	uint32 slot;
	bool there; // the relation has this slot already (a tombstone counts)
	PlacedPage* page;
	KeySlot* target() const noexcept { return key_page_slot(page->bytes, slot % kSlotsPerPage); }
};
struct SlotPlaces {
	char path[MAXPGPATH];
	int fd;
	int count, page_count;
	PlacedSlot* slots; // as the keys were given
	PlacedPage* pages;
};
// Finds each relation's slot or a free one, growing (and creating) the file as needed. The keys are different ones. ERROR on failure: then nothing
// was changed but for empty pages. Updates pages, file_id and free_hint in `database` and the index.
void keymap_place_slots(DatabaseKeys* database, const SlotKey* keys, int count, SlotPlaces* places);
// Puts `slot` into its place in memory, as the record that ends at `lsn` brings it.
void keymap_set_slot(PlacedSlot* place, const KeySlot& slot, XLogRecPtr lsn) noexcept;
// Writes the changed pages, then asks for the file's fsync before the next checkpoint completes. PANIC on failure: WAL already says so.
// For critical sections and redo.
void keymap_write_places_crit(const DatabaseKeys& database, const SlotPlaces& places);
// Makes the changed slots visible to every process. Allowed in a critical section.
void keymap_publish_places(const DatabaseKeys& database, const SlotPlaces& places, uint64 max_version) noexcept;
void keymap_release_places(const DatabaseKeys& database, SlotPlaces* places, uint64 max_version) noexcept;
// Turns a slot into a tombstone (WARNING at most, no fsync: a lost one only leaves a record behind). In redo a slot that is newer than
// what is being replayed stays. Under Lock::keymap_writer.
void keymap_bury(const DatabaseKeys& database, const SlotKey& key, uint32 slot, XLogRecPtr lsn, bool redo) noexcept;
bool keymap_raw_copy_running_locked() noexcept; // under Lock::keymap_writer
// Notes the key file's id, highest version and place in pg_seal/keyfiles (WARNING at most). `max_version` is one that the file is known to
// hold durably. Under Lock::keymap_writer.
void keymap_remember(const DatabaseKeys& database, uint64 max_version) noexcept;
// The same for a file whose versions nothing new is known about: writes only what differs.
void keymap_remember_file(const DatabaseKeys& database);

} // namespace seal::pg
