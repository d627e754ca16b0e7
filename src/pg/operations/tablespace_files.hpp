// What a tablespace holds: which databases have relations there, and how large their files are. Read from pg_database and from directories; no
// C++ object with a destructor here: everything may raise. In a transaction.
#pragma once

#include "../pg.hpp"

namespace seal::pg {

struct TargetDatabase {
	Oid oid;
	char name[NAMEDATALEN]; // in the cluster's shared encoding, as pg_database has it
	bool invalid;           // left behind by an interrupted DROP DATABASE: nobody can connect to it
};

// The databases that a worker must visit for `tablespace`: those with a directory there; for pg_global one that nobody wants empty, "postgres" if
// possible (none: try again).
// A palloc'd array; returns its length.
int databases_of_tablespace(Oid tablespace, TargetDatabase** out);

// Pages of all relation files of a tablespace, in all databases, that are to be sealed (`sealed` false), or unsealed. Relations on their way from one
// form to another count in both cases.
// Reads directories and key files. Cancellable.
uint64 pages_in_tablespace(Oid tablespace, bool sealed);

} // namespace seal::pg
