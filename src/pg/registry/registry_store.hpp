// The server's side of the registry: the file, its WAL records, and the small tables in shared memory that the storage path
// reads (which tablespaces are sealed by which keyring, which key version is current).
//
// A change: (1) under the registry lock, outside any critical section: the new file is written aside and fsynced (a full disk is
// a plain ERROR); (2) critical section, checkpoint delayed: WAL insert, flush, rename, fsync of the directory, publish in shared
// memory. A crash after the flush is repaired by redo; before it, the aside file is ignored and overwritten.
#pragma once

#include "../pg.hpp"

#include "seal/key_slot.hpp"

extern "C" {
#include "access/xlogreader.h"
}

namespace seal {
class Registry;
struct RegistryChange;
} // namespace seal

namespace seal::pg {

// --- plain data for the storage path; no raise, no allocation ---
struct SealPolicy {
	bool sealed;
	uint32 keyring_id;
	CipherId cipher;
};
SealPolicy policy_of_tablespace(Oid tablespace) noexcept; // {false,...} when none
struct KeyringState {
	bool exists;
	bool hsm;               // protection 'hsm'
	bool usable_for_new;    // may wrap new DEKs
	uint32 current_version; // of the keyring key
	uint32 current_kek_version;
	char name[NAMEDATALEN];
};
KeyringState keyring_state(uint32 keyring_id) noexcept;
uint32 wal_active_generation() noexcept; // of the WAL key that segments begun from now on get; 0: WAL in clear
uint64 registry_sequence() noexcept; // of what is published; the agent worker watches it

// --- C++ callers inside pg_entry; may throw SealError / PgError ---
Registry registry_read(); // parses the file; an absent file is an empty registry
void registry_commit(
	const RegistryChange&
		change); // the protocol above; change.sequence must be current + 1, under Lock::registry exclusive
void registry_redo(XLogReaderState* record); // redo of kXlogRegistryChange: file, tables, wakes the agent worker

} // namespace seal::pg
