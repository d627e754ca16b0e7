// Readers of a WAL page that is being rewritten.
//
// The newest page of WAL is written again and again while it fills. In clear its flushed bytes are the same before, during and after, so a
// reader may race. Sealed, a 16-byte block that is half filled changes as a whole: a reader that copies it while it is
// written could decrypt a mixture, and lose bytes that were flushed. So writers (one at a time: the holder of WALWriteLock, or the
// walreceiver) are counted in and out in shared memory, with the pages of the write (a walreceiver that starts anew writes a whole segment
// again, the page that was half full somewhere in it); a reader whose pages overlap them reads again.
#pragma once

#include "../pg.hpp"

#include "seal/wal_segment_io.hpp"

namespace seal::pg {

WalRawIo& wal_raw_io() noexcept; // pread(2) and pwrite(2), bracketed
Size wal_race_shmem_size();
void wal_race_shmem_init(void* memory);
uint64 wal_race_rereads() noexcept; // how often a reader of this process met a writer

} // namespace seal::pg
