// The background worker "pg_seal operations": runs the operations of the registry, one at a time, oldest first (operation_run.hpp).
//
// It starts when recovery has ended, so also after a promotion; it is woken by its latch and looks by itself every 10 s. An ERROR or a
// pg_terminate_backend() ends it and its worker; the postmaster starts it again, and it goes on with what the registry says is running.
#pragma once

#include "../pg.hpp"

namespace seal::pg {

void register_operation_launcher(); // from _PG_init
extern "C" PGDLLEXPORT void pg_seal_operations_main(Datum arg);

} // namespace seal::pg
