// Key records of another cluster, taken over while pg_upgrade builds this one from it.
//
// pg_upgrade makes every relation of the old cluster anew, empty, under its old relfilenode, tablespace and database OID, then puts the old one's files
// in its place, byte for byte. So a relation gets the old one's DEK when it is made: its record is looked up in the old cluster's key files, of which
// `pgseal exec -- pg_upgrade` has laid copies into pg_seal/import (named by database OID). A relation without a record there is plain, whatever the
// tablespace's policy says: its file is. What pg_upgrade does not transfer (sequences, init forks) is written under the same DEK.
//
// Only in a server started for a binary upgrade, and only if that directory is there.
#pragma once

#include "../pg.hpp"

extern "C" {
#include "storage/relfilenode.h"
}

namespace seal::pg {

inline constexpr char kKeyImportDirectory[] = "pg_seal/import";

bool key_import_active() noexcept;
// Before the relation's file exists. ERROR: its record does not verify under the keyring carried over, or it is half-way in a conversion.
void key_import_relation(const RelFileNode& node);

} // namespace seal::pg
