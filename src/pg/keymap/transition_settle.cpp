// From finished to single: the old key of a transition is erased from its record. A record that a relation unsealed ends as one that says
// "plain" and holds no key.
//
// Only where no redo, no standby and no running backup needs the old form any more: the finish lies before the redo start of a completed
// checkpoint, and pg_seal.tombstone_retention has passed, the time that backups and standbys are given. (Redo can do without: a page
// whose key is missing is handed on to its full image. So a lagging standby stops at worst, it never misreads.)
#include "transition.hpp"

#include "../guc.hpp"
#include "../shmem.hpp"
#include "../xlog.hpp"
#include "key_draft.hpp"
#include "keymap_store.hpp"

extern "C" {
#include "access/xlog.h"
}

#include <cstring>
#include <ctime>

namespace seal::pg {

namespace {

constexpr int kBatch = 256;

struct Due {
	XLogRecPtr redo_start;
	uint32 now, retention;
	KeySlot slots[kBatch];
	int count;
};

bool is_due(const Due& due, const KeySlot& slot) noexcept
{
	return slot.state == SlotState::finished && slot.dropped_lsn == 0 && slot.record_lsn < due.redo_start &&
	       due.now >= slot.dropped_at + due.retention;
}

void note_due(const KeySlot& slot, void* arg)
{
	auto* due = static_cast<Due*>(arg);
	if (due->count < kBatch && is_due(*due, slot))
		due->slots[due->count++] = slot;
}

void settle(KeySlot* slot) noexcept
{
	slot->state = SlotState::single;
	slot->flags = 0;
	slot->switch_lsn = 0;
	slot->dropped_at = 0;
	slot->old_form = {CipherId::none, 0};
	slot->old_wrapped_size = 0;
	memset(slot->old_wrapped, 0, sizeof slot->old_wrapped);
	memset(slot->old_key_check, 0, sizeof slot->old_key_check);
	if (slot->form.cipher != CipherId::none)
		return;
	slot->keyring_id = slot->keyring_version = 0;
	slot->mac_key_version = 0;
	slot->mechanism = WrapMechanism::none;
	memset(slot->mac, 0, sizeof slot->mac);
}

int settle_batch(Oid database_oid, const Due& due)
{
	auto* drafts = static_cast<KeyDraft*>(palloc0(sizeof(KeyDraft) * kBatch));
	int count = 0;
	LWLockAcquire(seal_lock(Lock::keymap_writer), LW_EXCLUSIVE);
	DatabaseKeys database;
	key_drafts_database(database_oid, &database);
	for (int i = 0; i < due.count; ++i) {
		const RelFileNode node = slot_node(database, due.slots[i]);
		KeyDraft& draft = drafts[count];
		if (!key_drafts_read(database, node, &draft.slot) || !is_due(due, draft.slot))
			continue;
		draft.node = node;
		settle(&draft.slot);
		++count;
	}
	if (count > 0)
		key_drafts_write(&database, drafts, count, true);
	LWLockRelease(seal_lock(Lock::keymap_writer));
	pfree(drafts);
	return count;
}

} // namespace

int transition_settle(Oid database)
{
	auto* due = static_cast<Due*>(palloc(sizeof(Due)));
	due->redo_start = completed_redo_start();
	due->now = static_cast<uint32>(time(nullptr));
	due->retention = static_cast<uint32>(guc_tombstone_retention_s);
	int settled = 0;
	do {
		due->count = 0;
		keymap_visit(database, note_due, due);
		settled += due->count > 0 ? settle_batch(database, *due) : 0;
	} while (due->count == kBatch);
	pfree(due);
	return settled;
}

} // namespace seal::pg
