// What recovery wrote under throwaway keys for relations whose own key record came later in the WAL: a base backup copied the key file before a
// relation's transition began, and the relation's file while it ran. Those pages are given the form of the record that came, before the key
// that opens them is forgotten.
#include "transition.hpp"

#include "../convert/disk_form.hpp"
#include "../vault/vault.hpp"
#include "keymap.hpp"

extern "C" {
#include "access/xlogutils.h"
#include "storage/bufmgr.h"
}

namespace seal::pg {

namespace {

struct Found {
	RelFileNode node;
	ForkNumber fork;
};

// Through the buffers, where a newer copy may be. Written at once: a restart forgets the key.
void write_anew(BlockNumber block, void* arg)
{
	const auto* found = static_cast<const Found*>(arg);
	const bool map = found->fork == FSM_FORKNUM || found->fork == VISIBILITYMAP_FORKNUM;
	const Buffer buffer = ReadBufferWithoutRelcache(found->node, found->fork, block, map ? RBM_ZERO_ON_ERROR : RBM_NORMAL, nullptr, true);
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	MarkBufferDirty(buffer);
	FlushOneBuffer(buffer);
	UnlockReleaseBuffer(buffer);
}

} // namespace

void transition_reclaim(const RelFileNode& node, bool last)
{
	if (!vault_throwaway_exists(relation_id(node)))
		return;
	for (int fork = 0; fork <= MAX_FORKNUM; ++fork) {
		Found found = {node, static_cast<ForkNumber>(fork)};
		disk_blocks_throwaway(node, found.fork, write_anew, &found);
	}
	if (last)
		vault_throwaway_forget(relation_id(node));
}

bool transition_reclaim_all(RelFileNode* lost)
{
	RelationId id;
	while (vault_throwaway_any(&id)) {
		*lost = {.spcNode = id.tablespace, .dbNode = id.database, .relNode = id.rel_node};
		KeySlot slot;
		if (keymap_find(*lost, &slot) == Lookup::absent || slot.dropped_lsn != 0 || slot.state == SlotState::single)
			return false;
		transition_reclaim(*lost, true);
	}
	return true;
}

} // namespace seal::pg
