// The reaper worker: once a minute it completes a sealing of WAL that was cut short (wal_complete_switch), and wipes the key records of
// dropped relations that nothing can need any more (keymap_reap), in every database, on primaries and standbys alike. It connects to no database.
#pragma once

#include "../pg.hpp"

namespace seal::pg {

extern "C" PGDLLEXPORT void pg_seal_reaper_main(Datum arg);
void register_reaper_worker();

} // namespace seal::pg
