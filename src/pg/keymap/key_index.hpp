// The index over the slots of all key files, in shared memory: (database, tablespace or 0, relfilenode) -> slot number, O(1).
//
// A cache of the files, rebuilt on first use of a database: forgetting a database is always safe. When it is full, the database is
// marked `overflow` and lookups that miss read the key file instead: slower, never wrong.
// Functions marked _locked need Lock::keymap (shared to read, exclusive to change). None raises.
#pragma once

#include "../pg.hpp"

#include "seal/key_slot.hpp"

namespace seal::pg {

inline constexpr int kMaxIndexedDatabases = 4096;

struct DatabaseKeys { // one database's key file, as far as this server knows it
	Oid database;           // 0 is the shared catalogs' (global/); see in_use
	Oid default_tablespace; // where its directory and its key file are
	bool in_use, overflow;
	bool verified;          // against pg_seal/keyfiles; not while in recovery
	uint32 pages;           // of the key file; 0: no file
	uint32 free_hint;       // no free slot below this number
	uint64 max_version;     // the largest version ever given
	uint8 file_id[16];
};

struct SlotKey {
	Oid database, tablespace /* 0: the default */, rel_node;
};

Size key_index_shmem_size();
void key_index_init(void* memory);

DatabaseKeys* key_index_database_locked(Oid database) noexcept;     // nullptr: not loaded
DatabaseKeys* key_index_add_database_locked(Oid database) noexcept; // makes room by forgetting another database if need be
void key_index_forget_database_locked(Oid database) noexcept;        // and bumps every epoch
void key_index_forget_all_locked() noexcept;

constexpr uint32 kNoSlot = UINT32_MAX;
uint32 key_index_find_locked(const SlotKey& key) noexcept;
bool key_index_put_locked(const SlotKey& key, uint32 slot) noexcept; // false: full (the caller sets overflow)
void key_index_remove_locked(const SlotKey& key) noexcept;

void key_index_bump_epoch(Oid rel_node) noexcept;
uint32 key_index_epoch(Oid rel_node) noexcept;

// A page of some key file is being written (Lock::keymap_writer is held). A slot read without a lock while it was may be half old, half new:
// the reader compares the counter before and after, and waits while it is odd.
void key_index_file_write(bool begins) noexcept;
uint32 key_index_file_writes() noexcept;

struct KeyIndexUse {
	uint64 entries, capacity;
	int databases, overflowed;
};
KeyIndexUse key_index_use() noexcept; // takes Lock::keymap shared

} // namespace seal::pg
