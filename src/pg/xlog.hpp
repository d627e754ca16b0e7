// The custom resource manager (PostgreSQL 15's RegisterCustomRmgr). Its id is on disk in WAL: never renumber.
#pragma once

#include "pg.hpp"

namespace seal::pg {

inline constexpr uint8 kRmgrId = 183; // documented in docs/architecture.md
inline constexpr uint8 kXlogKeyUpsert = 0x00;      // KeyUpsertRecord: database, its default tablespace, the slot
inline constexpr uint8 kXlogRegistryChange = 0x10; // RegistryChange::encode()
inline constexpr uint8 kXlogFiller = 0x20;         // zeroes: distance between records (wal/wal_switch.hpp)

void register_rmgr(); // from _PG_init

// The redo start of the last checkpoint or restart point that this node has completed, as pg_control on disk has it: no recovery begins before
// it. 0 when that cannot be told. Allocates for a moment.
uint64 completed_redo_start();

// Developer aid: dies (or fails with ENOSPC) at a named point when pg_seal.debug_crash_point says so. Returns true: pretend the
// operation failed with errno = ENOSPC.
bool crash_point(const char* name) noexcept;

} // namespace seal::pg
