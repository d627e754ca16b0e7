// Who may take WAL in clear over a replication connection (pg_seal.wal_receivers).
//
// A physical walsender hands out what PostgreSQL wrote, and the stock receivers store it in clear. Standbys with this library, and tools run
// by `pgseal exec`, seal what they receive. The server cannot tell them apart, so it is told who may.
#pragma once

#include "../pg.hpp"

namespace seal::pg {

void define_wal_receivers_setting();
// In a walsender that is about to read WAL: raises ERROR unless this connection may. Notes each connection once, in the server log and the
// audit log, when WAL is sealed. Does nothing in any other process.
void wal_receiver_check();

} // namespace seal::pg
