// pg_seal/keyfiles: which key file belongs to which database, and the highest version it has held. Local to the node.
//
// It tells a key file that was exchanged for another database's, removed, or put back from an older copy. Written after the key
// file, never fsynced: it may lag behind after a crash (then it knows less) but is never ahead of the key file, so it gives no false
// alarm. How far that reaches: a copy of the whole data directory put back together is not noticed (docs/threat-model.md).
// Callers hold Lock::keymap_writer.
#pragma once

#include "../pg.hpp"

namespace seal::pg {

struct KeyFileIdentity {
	Oid database;
	uint32 known; // 0: no record
	uint8 file_id[16];
	uint64 max_version;
	Oid default_tablespace; // where the database's directory was last known to be
	uint8 reserved[28];
};
static_assert(sizeof(KeyFileIdentity) == 64);

KeyFileIdentity key_file_identity(Oid database);              // known = 0 when there is no record
void key_file_remember(const KeyFileIdentity& identity) noexcept; // WARNING at most
void key_file_forget(Oid database) noexcept;

} // namespace seal::pg
