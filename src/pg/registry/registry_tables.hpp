// What is published of the registry to processes that may neither parse nor allocate: sealed tablespaces and keyrings, sorted,
// in the server's shared memory.
//
// Two copies. A writer (under Lock::registry, exclusive) fills the one that is not current, then moves the sequence; a reader
// copies its entry out of the current one and rereads the sequence: unchanged means the copy is whole. So readers take no lock,
// never wait for a writer, and may run while their own process holds any lock.
#pragma once

#include "registry_store.hpp"

#include <atomic>

namespace seal::pg {

inline constexpr int kMaxTablespaces = 4096;
inline constexpr int kMaxKeyrings = 4096;

struct PublishedTablespace {
	Oid tablespace;
	uint32 keyring_id;
	CipherId cipher;
};
struct PublishedKeyring {
	uint32 id;
	KeyringState state;
};

struct RegistryTables {
	uint64 sequence;
	uint32 wal_active; // generation of the WAL key that new segments get; 0: clear
	int tablespace_count, keyring_count;
	PublishedTablespace tablespaces[kMaxTablespaces]; // sealed ones only, ascending
	PublishedKeyring keyrings[kMaxKeyrings];          // ascending
};

// Fills `tables` from a parsed registry. Throws SealError when one of them is too small.
void tables_fill(RegistryTables& tables, const Registry& registry);
// In a critical section: copies and makes current.
void tables_publish(const RegistryTables& tables) noexcept;

} // namespace seal::pg
