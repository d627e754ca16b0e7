// Making and logging key records: one protocol for creation and for every transition of a relation (docs/architecture.md, "Key files").
//
//   outside any critical section   key_draft_*: choose and fill the record; draw the DEK (may wait for a provider, holds no lock)
//   under Lock::keymap_writer      key_drafts_write(): slots found, file grown; versions, wraps, MACs
//       critical section           checkpoint delayed: WAL insert of every draft -> [flush] -> pages written -> sync requested -> published
//
// A record's durability is that of its WAL record. The key file itself is made durable by the next checkpoint, through the server's own queue
// of sync requests (storage/sync_seam.hpp): a crash before it replays the record, a checkpoint after it has the file fsynced.
#pragma once

#include "../registry/registry_store.hpp"
#include "key_index.hpp"
#include "keymap.hpp"

namespace seal::pg {

// A record on its way. `slot` holds everything but tablespace, rel_node, version and mac, which key_drafts_write() sets.
struct KeyDraft {
	RelFileNode node;
	KeySlot slot;
	bool new_dek; // slot.form needs a fresh DEK: drawn and wrapped by key_drafts_write(), or `pooled`
	bool hsm;
	PooledDek pooled; // 'hsm' keyrings: taken beforehand; wiped by key_drafts_write()
	// out:
	XLogRecPtr lsn;    // the end of its WAL record
	bool took_effect;  // false: keymap_takes_effect() said no; the record is in WAL, but changes nothing on any node
};

// A new DEK for `node` under `keyring_id` (cipher none: a record that says "plain"). state single, random generation. ERROR when the
// keyring makes no keys or its key is not unlocked. May wait (cancellably) for pooled 'hsm' DEKs: call it holding no lock.
void key_draft_new(KeyDraft* draft, const RelFileNode& node, uint32 keyring_id, CipherId cipher);

// The keyring a new DEK is made under. ERROR when it does not exist or makes no keys.
KeyringState key_draft_keyring(uint32 keyring_id);

// Does a record that ends at `end` in WAL take effect? One that makes a transition active does only if its end does not lie beyond the
// switch LSN it names; every node decides alike. All others always do.
inline bool keymap_takes_effect(const KeySlot& slot, XLogRecPtr end) noexcept
{
	return slot.state != SlotState::transition || end <= slot.switch_lsn;
}

// Loads the database's keys for a writer (keymap_load with an ERROR when its directory is gone). Under Lock::keymap_writer.
void key_drafts_database(Oid database, DatabaseKeys* out);
// Reads the newest slot of a relation from the file, tombstones included. Under Lock::keymap_writer. False: none.
bool key_drafts_read(const DatabaseKeys& database, const RelFileNode& node, KeySlot* slot);

// Writes the drafts, all of one database, in order. Under Lock::keymap_writer, exclusive. `flush`: WAL is flushed up to the last of them before
// any of them can be seen. ERROR before the first WAL insert leaves everything as it was; after it nothing raises (PANIC).
// Each draft names a different relation. The caller is in a transaction (a virtual transaction id: a checkpoint waits for no other process). A slot that is there already is overwritten (version + 1), and live again.
void key_drafts_write(DatabaseKeys* database, KeyDraft* drafts, int count, bool flush);

} // namespace seal::pg
