// One operation, from 'running' to its end: databases one after another, whole passes until one finds nothing left to do.
//
// Why that is complete: what is created after the policy was set follows it, once every process has taken notice (a process barrier before the
// first pass), and no database that was being created meanwhile is missed (its creator's lock on pg_database is waited for). What was there
// before is found by a worker; a pass that finds nothing in any database has seen everything.
#pragma once

#include "../pg.hpp"

namespace seal::pg {

// Runs the operation whose turn it is to its end, a pause, or this process's. False: there is none.
bool run_next_operation();

// Sleeps until woken, at most `ms`; serves reloads, barriers and cancels. Returns at once, and always, when the process shall end.
void launcher_pause(long ms);

} // namespace seal::pg
