// The storage manager functions that stand in for md.c's: the path of every relation page to and from disk.
//
//   write, extend:  plain buffer -> key cache -> sealed copy with its checksum -> md
//   read:           md -> key cache -> opened in place, plain checksum set
//   create:         a key record first (keymap), then md creates the file
//   unlink:         md removes the file, then the key record becomes a tombstone
//
// The caller's buffer is never changed by a write. Pages of plain relations pass untouched.
#pragma once

#include "server_smgr.hpp"

namespace seal::pg {

ServerSmgr sealing_smgr(const ServerSmgr& stock) noexcept; // `stock` with our functions in place

// Probe mode: our functions only note that they were called. end() returns the mask of those that were not.
void smgr_probe_begin() noexcept;
unsigned smgr_probe_end() noexcept;

} // namespace seal::pg
