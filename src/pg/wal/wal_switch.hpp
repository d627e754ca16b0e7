// Steps between two generations of the WAL key, in WAL itself.
#pragma once

#include "../pg.hpp"

namespace seal::pg {

// No server with this library reads farther ahead than this allows (wal_decode_buffer_size). From _PG_init.
void wal_limit_read_ahead();
// WAL that means nothing, more of it than any recovery reads ahead: whoever replays what was logged before it has done so when it reads the
// first byte after it. So a page under a key is never read before the record that brings the key was replayed.
void wal_outrun_read_ahead();
// Ends the present segment, so that the next one begins in the form that is wanted now, and completes a checkpoint behind it: nothing before
// is replayed any more. The address of the new segment.
uint64 wal_begin_segment();
// Does the same if WAL is to be sealed and the last checkpoint lies in a segment in clear (a crash or a cancellation cut the enabling short):
// a server without the library would replay from there, take the first sealed page for the end of WAL, and lose what was committed behind it.
void wal_complete_switch();
// Segments that wait to be used again and still hold WAL in clear are removed. A file is taken only if it is not WAL of its own name.
// At start no other process may exist; later WAL is held still meanwhile.
void wal_drop_plain_leftovers(bool at_start);
uint64 wal_next_segment_of(uint64 lsn) noexcept; // the first segment boundary at or after it
uint64 wal_oldest_local_segment();               // address of the oldest segment in pg_wal; raises when it cannot be listed

} // namespace seal::pg
