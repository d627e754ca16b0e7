// The keymap: which relation has which DEK. Key files beside the data (seal/key_slot.hpp), an index over their slots in shared
// memory, and the protocol that changes them without ever losing a key a page needs (docs/architecture.md, "Key files").
#pragma once

#include "../pg.hpp"
#include "../vault/vault.hpp"

#include "seal/key_slot.hpp"

extern "C" {
#include "access/xlogreader.h"
#include "lib/stringinfo.h"
#include "storage/relfilenode.h"
}

namespace seal::pg {

// --- lookup ---
enum class Lookup { found, absent };
// Copies the slot of a relation (tombstones included: redo may still need their keys). Reads the database's key file into the
// index on first use. May raise (I/O error, damaged key file). Not in a critical section.
Lookup keymap_find(const RelFileNode& node, KeySlot* slot);
// Counts changes to slots, by partition: a cached entry is valid while its partition's count stands. Lock-free.
uint32 keymap_epoch(const RelFileNode& node) noexcept;

// The seed of a slot's current (or old) form, its MAC and key check verified. Waits for an unloaded key in recovery; else ERROR
// naming relation, keyring and remedy. The caller wipes `seed`.
void keymap_seed(const RelFileNode& node, const KeySlot& slot, bool old, uint8 seed[kDekSeedSize]);

// --- change ---
void keymap_create(const RelFileNode& node, uint32 keyring_id, CipherId cipher); // a new DEK; before the file exists; ERROR on failure
void keymap_tombstone(const RelFileNode& node, bool redo) noexcept;             // after unlink; WARNING at most
void keymap_redo(XLogReaderState* record);                                      // kXlogKeyUpsert
void keymap_describe(StringInfo out, const char* data, uint32 size);             // for pg_waldump-like output in the server
void keymap_recovery_ended();                                                    // forgets what was read unverified in recovery
void keymap_unload_database(Oid database);                                       // DROP DATABASE, moves: forget the index, not the file
void keymap_database_dropped(Oid database) noexcept;                             // also forgets which key file was the database's
// Held off while the server copies a database's directory raw in redo (the reaper would write into what is being copied).
void keymap_raw_copy(bool begins);

// --- inspection (SQL functions, DDL checks, workers) ---
typedef void (*SlotVisitor)(const KeySlot& slot, void* arg);
void keymap_visit(Oid database, SlotVisitor visit, void* arg); // every live slot of a database's key file; under the keymap lock, shared
// drop_keyring: first wipes what only dropped relations still hold (a checkpoint; takes Lock::keymap_writer), then, with
// Lock::keymap_writer held so that no key is made meanwhile, asks whether any record is left in any database.
void keymap_purge_keyring(uint32 keyring_id);
bool keymap_any_slot_of_keyring(uint32 keyring_id);
int keymap_reap(Oid database);                                  // wipes tombstones past their time; returns how many

} // namespace seal::pg
