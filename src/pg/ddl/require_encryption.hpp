// pg_seal.require_encryption: may a relation, or a database, be created in clear?
//
// The storage manager asks when a plain permanent or unlogged relation is about to get its file. Statements that only write an existing relation
// anew in its place may: nothing that was protected comes to lie in clear by them. Which statement is running is noted by the utility hook.
#pragma once

#include "../pg.hpp"

extern "C" {
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
}

namespace seal::pg {

// A relation (or database) without a key is to be created in `tablespace`, which is not sealed: nothing, a WARNING (one per statement), or ERROR.
void check_plain_creation(Oid tablespace);

// Is a tablespace plain, not named in pg_seal.plain_tablespaces, and the setting not off?
bool plain_is_unwanted(Oid tablespace);

// Around every utility statement.
enum class StatementKind : int { none, in_place, other };
StatementKind statement_begins(const Node* statement, ProcessUtilityContext context); // returns the one around it
void statement_ends(StatementKind outer) noexcept;

} // namespace seal::pg
