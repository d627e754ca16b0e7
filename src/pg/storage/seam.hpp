// The storage seam: redirects the server's own storage manager table to smgr_seal.hpp's functions.
//
// smgr.c dispatches through a static constant table of pointers to exported functions, which lies in the executable's
// RELRO segment. It is found by its contents, made writable for a moment, changed, and proved by calls through the server's
// own dispatch that must arrive here.
//
// Fail closed: table not found exactly once, an entry already replaced by somebody else, or a probe that does not arrive:
// FATAL with what was looked for and what was found. The server never runs half-redirected.
#pragma once

#include "../pg.hpp"

namespace seal::pg {

void seam_install();           // from _PG_init in the postmaster or single-user mode; FATAL on any doubt
bool seam_installed() noexcept; // health
const char* seam_summary() noexcept; // one line for health: where the table was found and which entries were proved

} // namespace seal::pg
