// Sweeping: every page of a relation is dirtied under its buffer lock with a logged full image, so that it goes to disk in its new form
// and no torn write of it can meet the old one.
//
// The locks are a reader's (AccessShareLock), for one short piece at a time, never waited for: DROP, TRUNCATE, rewrites, VACUUM's truncation and
// REINDEX CONCURRENTLY go on in between; after each lock relfilenode and length are looked at anew.
#pragma once

#include "../keymap/transition.hpp"
#include "throttle.hpp"

namespace seal::pg {

struct WorkRelation {
	Oid relation;
	RelFileNode node;
	bool unlogged;
	BlockNumber blocks; // when it was listed, all forks
};

enum class SweepResult {
	done,
	gone,  // dropped, or it has other files now
	busy,  // somebody holds a lock that excludes readers: later
	stopped,
};

enum class SweepPages {
	all,          // the first pass: every page, whatever it looks like
	old_on_disk,  // later passes and after a restart: pages whose copy on disk has the old form (`found` counts them)
};

struct SweepOrder {
	KeyForm wanted; // the relation's new form
	SweepPages pages;
	bool counts;    // towards the operation's progress; verification does not, and is held back less
	Oid database;
};

// One pass over a relation. Starts and ends transactions of its own; outside one when called. May raise
// (a damaged page, for example): the caller aborts the transaction.
SweepResult sweep_relation(const WorkRelation& relation, const SweepOrder& order, Throttle* throttle, uint64* found);

} // namespace seal::pg
