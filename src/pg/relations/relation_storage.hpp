// Where a relation lies and what its pages on disk are. No C++ object with a destructor here: everything may raise.
#pragma once

#include "../pg.hpp"

#include "seal/key_slot.hpp"

extern "C" {
#include "storage/backendid.h"
#include "storage/relfilenode.h"
}

namespace seal::pg {

struct RelationStorage {
	Oid relation;
	RelFileNode node;
	BackendId backend; // InvalidBackendId unless temporary
	char kind;         // relkind
	bool catalog;      // of the system: in pg_catalog or its TOAST
	bool unlogged;
	bool other_session; // another session's temporary relation
};

// False: no such relation, or one without storage. Takes no lock on it: what it tells may be old by the time it returns, as with
// pg_relation_filenode().
bool relation_storage(Oid relation, RelationStorage* out);

// Every relation of the current database with storage in `tablespace` (InvalidOid: in any). A palloc'd array; returns its length.
int relations_in_tablespace(Oid tablespace, RelationStorage** out);

// Does a live key record with a key (or, for a temporary relation of this session, a key in memory) exist? `slot` is the live record, whatever
// it says, or all zero.
bool relation_has_key(const RelationStorage& storage, KeySlot* slot);

// What lies on disk in all forks. A page counts as sealed by its marker; pages that only lie in shared buffers yet do not count.
struct PageCounts {
	int64 total, sealed, plain, zero;
};
void count_pages(const RelationStorage& storage, PageCounts* out);

} // namespace seal::pg
