// Key files in the server's own queue of sync requests: what is registered here is fsynced by the next checkpoint before it completes, by the
// very rules the server follows for relation files (sync.c).
//
// sync.c dispatches through a constant table of function pointers (mdsyncfiletag, mdunlinkfiletag, mdfiletagmatches, clogsyncfiletag ...), in RELRO
// like the storage manager's. Its first entry is redirected: a tag whose fork number is kKeyFileFork is a key file, every other one is the
// server's. Found exactly once or the server does not start; proved by a call through the server's own dispatch in a child process.
//
// The server's filter for dropped databases compares database OIDs alone (mdfiletagmatches), so it cancels our requests as well; our requests
// never ask for an unlink, so mdunlinkfiletag never meets our fork number.
#pragma once

#include "../pg.hpp"

namespace seal::pg {

inline constexpr int16 kKeyFileFork = 100; // no fork has this number

void sync_seam_install(); // from seam_install(); FATAL when it cannot be proved

// After a write: asks for an fsync of the database's key file before the next checkpoint completes. False: the queue is full and the caller
// must fsync the file itself. Allowed in a critical section.
bool sync_key_file_later(Oid database, Oid default_tablespace) noexcept;
// The directory is about to be removed and copied anew, every file of it made durable by the copying: what was asked for is void.
void sync_key_file_forget(Oid database, Oid default_tablespace) noexcept;

} // namespace seal::pg
