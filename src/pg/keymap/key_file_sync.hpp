// The checkpoint's part in a key file's life: it is made durable, and then what it holds is noted in pg_seal/keyfiles.
#pragma once

#include "../pg.hpp"

namespace seal::pg {

// Called through the server's queue of sync requests (storage/sync_seam.hpp), by the checkpointer or a process that stands alone. Fills `path`.
// As sync.c expects: 0, or -1 with errno. Takes Lock::keymap and, after the fsync, Lock::keymap_writer. Raises nothing.
int key_file_sync(Oid database, Oid default_tablespace, char path[MAXPGPATH]) noexcept;

} // namespace seal::pg
