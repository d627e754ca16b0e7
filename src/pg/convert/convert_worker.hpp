// The conversion worker: brings every relation of one tablespace in one database into the form that the tablespace's policy demands, while
// sessions use them. Started by the operations' launcher (operations/), database by database.
//
//   list -> for each group of relations: begin their transitions, sweep them -> checkpoint -> read every page on disk -> end the transitions
//
// It keeps no state of its own: what is left to do shows in the key records and on disk, so a worker that died is simply started again.
#pragma once

#include "../pg.hpp"

extern "C" {
PGDLLEXPORT void pg_seal_convert_main(Datum argument); // bgw_extra: ConvertTask
}
