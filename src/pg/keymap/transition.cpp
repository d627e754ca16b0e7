#include "transition.hpp"

#include "../shmem.hpp"
#include "../xlog.hpp"
#include "key_draft.hpp"
#include "keymap_store.hpp"

#include "seal/secret.hpp"

extern "C" {
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "access/xlogutils.h"
#include "catalog/pg_control.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "storage/smgr.h"
}

#include <cstring>
#include <ctime>

namespace seal::pg {

namespace {

constexpr uint64 kFirstLookahead = 4096;      // bytes of WAL that others may insert while a transition is made active
constexpr uint64 kLargestLookahead = 64 << 20;
constexpr Size kFillerSize = 8192;            // one record that moves the WAL towards a switch LSN
constexpr uint64 kBytesPerRecord = 512;       // of a key record in WAL, generously

bool live(const KeySlot& slot) noexcept { return slot.dropped_lsn == 0; }

// The record of a transition that has not begun, from a new draft: its old form is "plain".
void announce(KeyDraft* draft, const KeySlot* existing, bool unlogged)
{
	KeySlot& slot = draft->slot;
	slot.state = SlotState::announced;
	slot.flags = unlogged ? kSlotUnlogged : 0;
	// Generations of forms that may meet on disk differ.
	while (existing && (slot.form.generation == existing->form.generation || slot.form.generation == existing->old_form.generation))
		++slot.form.generation;
}

// Towards plain: the record keeps the key as its old one.
void announce_plain(KeyDraft* draft, const KeySlot& existing, bool unlogged)
{
	draft->slot = existing;
	draft->new_dek = false;
	KeySlot& slot = draft->slot;
	slot.state = SlotState::announced;
	slot.flags = unlogged ? kSlotUnlogged : 0;
	slot.switch_lsn = 0;
	slot.dropped_at = 0;
	slot.old_form = existing.form;
	slot.old_wrapped_size = existing.wrapped_size;
	memcpy(slot.old_wrapped, existing.wrapped, sizeof slot.old_wrapped);
	memcpy(slot.old_key_check, existing.key_check, sizeof slot.old_key_check);
	slot.form = {CipherId::none, existing.form.generation};
	slot.wrapped_size = 0;
	memset(slot.wrapped, 0, sizeof slot.wrapped);
	memset(slot.key_check, 0, sizeof slot.key_check);
}

// Every later page image lies behind the switch LSN once the WAL does.
void move_wal_past(XLogRecPtr lsn)
{
	static char filler[kFillerSize];
	while (GetXLogInsertRecPtr() <= lsn) {
		XLogBeginInsert();
		XLogRegisterData(filler, static_cast<int>(sizeof filler));
		(void)XLogInsert(RM_XLOG_ID, XLOG_NOOP);
		CHECK_FOR_INTERRUPTS();
	}
}

// From announced to transition. Under Lock::keymap_writer. With Lock::transition held nobody writes a page in its old form; the record
// takes effect (here and in redo alike) only if WAL has not passed its switch LSN when it ends, so whatever was written
// before it has an LSN below.
XLogRecPtr activate(DatabaseKeys* database, KeyDraft* drafts, int count)
{
	XLogRecPtr furthest = 0;
	uint64 lookahead = kFirstLookahead + static_cast<uint64>(count) * kBytesPerRecord;
	while (count > 0) {
		LWLockAcquire(seal_lock(Lock::transition), LW_EXCLUSIVE);
		const XLogRecPtr switch_lsn = GetXLogInsertRecPtr() + lookahead;
		for (int i = 0; i < count; ++i) {
			drafts[i].slot.state = SlotState::transition;
			drafts[i].slot.switch_lsn = switch_lsn;
			drafts[i].new_dek = false;
		}
		key_drafts_write(database, drafts, count, true);
		LWLockRelease(seal_lock(Lock::transition));
		furthest = Max(furthest, switch_lsn);

		int left = 0;
		for (int i = 0; i < count; ++i)
			if (!drafts[i].took_effect)
				drafts[left++] = drafts[i];
		count = left;
		lookahead = Min(lookahead * 4, kLargestLookahead);
	}
	return furthest;
}

} // namespace

bool transition_wanted(const KeySlot* slot, bool sealed) noexcept
{
	if (!slot || !live(*slot))
		return sealed;
	return slot_in_transition(slot->state) || (slot->form.cipher != CipherId::none) != sealed;
}

KeyDraft* transition_drafts(const TransitionItem* items, int count, const SealGoal& goal)
{
	auto* drafts = static_cast<KeyDraft*>(palloc0(sizeof(KeyDraft) * static_cast<Size>(count)));
	for (int i = 0; i < count; ++i) {
		KeySlot slot;
		if (goal.sealed && keymap_find(items[i].node, &slot) == Lookup::found && live(slot) && slot_in_transition(slot.state))
			drafts[i].node = items[i].node; // it has its keys: to go on, no provider is needed
		else if (goal.sealed)
			key_draft_new(&drafts[i], items[i].node, goal.keyring_id, goal.cipher);
		else
			drafts[i].node = items[i].node;
	}
	return drafts;
}

void transition_begin(Oid database_oid, TransitionItem* items, KeyDraft* drafts, int count, const SealGoal& goal)
{
	auto* announced = static_cast<KeyDraft*>(palloc(sizeof(KeyDraft) * static_cast<Size>(count)));
	auto* pending = static_cast<KeyDraft*>(palloc(sizeof(KeyDraft) * static_cast<Size>(count)));
	int announced_count = 0, pending_count = 0;
	XLogRecPtr switch_lsn = InvalidXLogRecPtr;

	LWLockAcquire(seal_lock(Lock::keymap_writer), LW_EXCLUSIVE);
	DatabaseKeys database;
	key_drafts_database(database_oid, &database);
	if (transition_count() + count > kMaxTransitions)
		ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("too many relations are being converted at one time")));
	for (int i = 0; i < count; ++i) {
		TransitionItem& item = items[i];
		KeySlot slot;
		const bool exists = key_drafts_read(database, item.node, &slot);
		item.entry = nullptr;
		item.begun = item.resumed = false;
		if (!transition_wanted(exists ? &slot : nullptr, goal.sealed)) {
			wipe(&drafts[i].pooled, sizeof drafts[i].pooled);
			continue;
		}
		item.begun = true;
		item.resumed = exists && live(slot) && slot_in_transition(slot.state);
		if (item.resumed) {
			wipe(&drafts[i].pooled, sizeof drafts[i].pooled);
			if (slot.state == SlotState::announced) {
				pending[pending_count].node = item.node;
				pending[pending_count].slot = slot;
				pending[pending_count++].hsm = false;
			}
			switch_lsn = Max(switch_lsn, slot.switch_lsn); // whoever began it may have died before the WAL had passed it
			continue;
		}
		if (goal.sealed && !drafts[i].new_dek) { // it was in transition when its draft was made: the next pass sees what it is now
			item.begun = false;
			continue;
		}
		if (goal.sealed)
			announce(&drafts[i], exists ? &slot : nullptr, item.unlogged);
		else
			announce_plain(&drafts[i], slot, item.unlogged);
		announced[announced_count++] = drafts[i];
		wipe(&drafts[i].pooled, sizeof drafts[i].pooled);
	}
	if (announced_count > 0) {
		key_drafts_write(&database, announced, announced_count, true);
		crash_point("transition.announced");
		memcpy(&pending[pending_count], announced, sizeof(KeyDraft) * static_cast<Size>(announced_count));
		pending_count += announced_count;
	}
	switch_lsn = Max(switch_lsn, activate(&database, pending, pending_count));
	LWLockRelease(seal_lock(Lock::keymap_writer));
	crash_point("transition.active");

	for (int i = 0; i < count; ++i)
		if (items[i].begun)
			items[i].entry = transition_entry(items[i].node);
	move_wal_past(switch_lsn);
	pfree(announced);
	pfree(pending);
}

int transition_finish(Oid database_oid, const TransitionItem* items, const uint64* old_writes, bool* ended, int count)
{
	auto* drafts = static_cast<KeyDraft*>(palloc0(sizeof(KeyDraft) * static_cast<Size>(count)));
	int ready = 0, result = 0;

	LWLockAcquire(seal_lock(Lock::keymap_writer), LW_EXCLUSIVE);
	DatabaseKeys database;
	key_drafts_database(database_oid, &database);
	LWLockAcquire(seal_lock(Lock::transition), LW_EXCLUSIVE);
	for (int i = 0; i < count; ++i) {
		KeySlot slot;
		ended[i] = !key_drafts_read(database, items[i].node, &slot) || !live(slot) || slot.state != SlotState::transition;
		if (ended[i])
			continue;
		if (!items[i].entry || pg_atomic_read_u64(&items[i].entry->old_writes) != old_writes[i])
			continue;
		KeyDraft& draft = drafts[ready++];
		draft.node = items[i].node;
		draft.slot = slot;
		draft.slot.state = SlotState::finished;
		draft.slot.dropped_at = static_cast<uint32>(time(nullptr));
		ended[i] = true;
	}
	// From here to the release nobody writes a page in its old form; afterwards everybody finds the finished record. The record is flushed before
	// it is seen, since it lets pages change their form without an image.
	if (ready > 0)
		key_drafts_write(&database, drafts, ready, true);
	LWLockRelease(seal_lock(Lock::transition));
	LWLockRelease(seal_lock(Lock::keymap_writer));
	crash_point("transition.finished");

	for (int i = 0; i < count; ++i)
		if (ended[i]) {
			transition_forget(items[i].node);
			++result;
		}
	pfree(drafts);
	return result;
}

void transition_finished_redo(const RelFileNode& node, const KeySlot& slot)
{
	transition_forget(node);
	const SMgrRelation reln = smgropen(node, InvalidBackendId);
	for (const ForkNumber fork : {FSM_FORKNUM, VISIBILITYMAP_FORKNUM}) {
		if (!smgrexists(reln, fork))
			continue;
		const BlockNumber blocks = smgrnblocks(reln, fork);
		for (BlockNumber block = 0; block < blocks; ++block) {
			const Buffer buffer = ReadBufferWithoutRelcache(node, fork, block, RBM_ZERO_ON_ERROR, nullptr, true);
			LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
			Page page = BufferGetPage(buffer);
			if (!PageIsNew(page) && PageGetLSN(page) < slot.switch_lsn) {
				memset(page, 0, BLCKSZ);
				MarkBufferDirty(buffer);
			}
			UnlockReleaseBuffer(buffer);
		}
	}
}

} // namespace seal::pg
