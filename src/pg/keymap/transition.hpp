// Transitions: a relation on its way from one form to another (plain to sealed, sealed to plain, one DEK to the next), while it is used.
//
//   announced   both forms can be read; every page is still written in the old one
//   transition  a page is written in the new form if and only if its LSN has reached the record's switch LSN (PROTOCOLS 2): no write that is
//               not covered by a WAL image since can change a page's form, so none can be torn between two forms
//   finished    the new form alone is written; an unmarked page in a sealed relation is refused; the old key is kept
//   single      the old key is gone (transition_settle)
//
// Why no page is ever written in the wrong form, on any node, is argued in docs/architecture.md, "Transitions".
#pragma once

#include "keymap.hpp"

extern "C" {
#include "port/atomics.h"
}

namespace seal::pg {

inline constexpr int kMaxTransitions = 4096; // relations on their way at one time, in the cluster

// The shared state of one relation's transition. Lives until the relation is finished or dropped.
struct Transition {
	RelFileNode node; // first: the key of the hash table
	pg_atomic_uint64 old_writes; // pages written in the old form, ever: what a finish must not overlook
};

// The entry of a relation, made if need be; nullptr when the table is full (then only the count of old writes is lost, and no
// transition can be finished: transition_begin() never lets it come to that). Takes Lock::transition.
Transition* transition_entry(const RelFileNode& node) noexcept;
Transition* transition_find_locked(const RelFileNode& node) noexcept; // under Lock::transition; nullptr: there is none
void transition_forget(const RelFileNode& node) noexcept; // dropped
void transition_forget_database(Oid database) noexcept;
int transition_count() noexcept;

// What relations are to become.
struct SealGoal {
	bool sealed;
	uint32 keyring_id;
	CipherId cipher;
};
// Does a record (nullptr: none) stand in the way of the goal? Sealed under another keyring or cipher is not the goal's business.
bool transition_wanted(const KeySlot* slot, bool sealed) noexcept;

struct TransitionItem {
	RelFileNode node;
	bool unlogged;
	Transition* entry; // out
	bool begun;        // out: in transition now (also when it was before)
	bool resumed;      // out: it was before: some pages may have their new form already
};

// Begins the transitions of relations of one database; the caller holds AccessShareLock on each of them, so that none is dropped
// meanwhile. Items already in transition are left there; those already as wanted come back with begun = false. ERROR: nothing of what had not begun has begun.
// `drafts` made by transition_drafts() beforehand, holding no lock.
struct KeyDraft;
KeyDraft* transition_drafts(const TransitionItem* items, int count, const SealGoal& goal); // palloc'd; may wait for a provider
void transition_begin(Oid database, TransitionItem* items, KeyDraft* drafts, int count, const SealGoal& goal);

// How many pages of each item have been written in the old form, none of them half-way.
void transition_old_writes(const TransitionItem* items, uint64* old_writes, int count) noexcept;

// Ends the transitions of those items whose `old_writes` still is what the caller saw before it read all their pages on disk and found none
// in the old form, after a checkpoint. Returns how many were ended; `ended[i]` tells which. A dropped relation counts as ended.
int transition_finish(Oid database, const TransitionItem* items, const uint64* old_writes, bool* ended, int count);

// Redo of a record that finishes a transition: pages that only this node has (free space and visibility maps are not all logged)
// and that no image has brought past the switch LSN are emptied.
void transition_finished_redo(const RelFileNode& node, const KeySlot& slot);

// Redo of a record of a transition, and the end of redo: pages that were written under a key that lasts as long as recovery, because the relation's
// own record had not come yet, are written anew in the form that is theirs. Forgets that key when `last`.
void transition_reclaim(const RelFileNode& node, bool last);
// At the end of redo, for all of them. A relation that has no record even now: false, and which.
bool transition_reclaim_all(RelFileNode* lost);

// Erases the old keys of finished transitions that no redo, standby or backup can need any more. Returns how many.
int transition_settle(Oid database);

} // namespace seal::pg
