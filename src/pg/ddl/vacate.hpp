// Statements that need a database empty, and the worker of an operation that is in it.
//
// The worker leaves a database on request within a moment (what it has begun there goes on later), and stays out of it until the statement has
// ended, however it ends. See operations/operation_board.hpp for the rule that neither side can miss the other.
#pragma once

#include "../pg.hpp"

namespace seal::pg {

// Takes a vacate slot for the database. Waits, cancellably, while all are taken. Give it back with vacate_release().
int vacate_take(Oid database);
// Waits, cancellably, a few seconds, until no worker is in the database. A worker that cannot leave so fast gets a NOTICE: the server's own check
// for other sessions then decides.
void vacate_wait(Oid database);
void vacate_release(int code, Datum slot); // as a callback at exit, too

} // namespace seal::pg
