// What is left to do in one database for one tablespace.
#pragma once

#include "sweep.hpp"

namespace seal::pg {

// Relations of this database with storage in the tablespace whose key records are not as `sealed` wants them, or are on their way. Inside a
// transaction. A palloc'd array; returns its length. `begun_only`: the latter alone. Temporary relations are left to end with their session.
int list_work(Oid tablespace, bool sealed, bool begun_only, WorkRelation** out);

// Files of relations that no catalog row shows and no key record covers as `sealed` wants it: made, before the policy changed, by
// a transaction that has not committed (or left behind by a crash, or dropped: those are empty until the next checkpoint). Inside a transaction.
struct StrayFiles {
	int all, with_pages;
	char example[MAXPGPATH]; // with pages, if there is one
};
void count_stray_files(Oid tablespace, bool sealed, StrayFiles* out);

} // namespace seal::pg
