// What a relation's pages on disk are, read from its files past the buffers: the evidence a transition ends on. A page whose only copy in the
// new form lies in shared buffers yet counts as old.
//
// No lock is needed to read; the caller holds AccessShareLock on the relation if the file must not vanish. A page that is being written just
// now shows its header of before or after.
#pragma once

#include "../pg.hpp"

#include "seal/key_slot.hpp"

extern "C" {
#include "common/relpath.h"
#include "storage/block.h"
#include "storage/relfilenode.h"
}

namespace seal::pg {

// Blocks of a fork by its files' sizes; 0 when it does not exist. ERROR when that cannot be told.
BlockNumber disk_blocks(const RelFileNode& node, ForkNumber fork);

// Calls `visit` for each block in [from, to) that is neither zero nor in the form `wanted`; returns how many blocks were looked at (fewer than
// asked for at the end of the fork).
typedef void (*BlockVisitor)(BlockNumber block, void* arg);
BlockNumber disk_blocks_not_in_form(const RelFileNode& node, ForkNumber fork, BlockNumber from, BlockNumber to, KeyForm wanted,
                                    BlockVisitor visit, void* arg);

// Calls `visit` for each block of the fork that is sealed by a key that lasts as long as recovery (CipherId::throwaway).
void disk_blocks_throwaway(const RelFileNode& node, ForkNumber fork, BlockVisitor visit, void* arg);

// Does a page that is not sealed, and not a zero page either, lie at this place?
bool disk_page_is_plain(const RelFileNode& node, ForkNumber fork, BlockNumber block);

} // namespace seal::pg
