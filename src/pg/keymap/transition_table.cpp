// The relations that are on their way, in shared memory. Rebuilt by whoever first meets such a record after a start: it holds nothing that
// must survive, because a finish rests on what is read from disk.
#include "transition.hpp"

#include "../shmem.hpp"

extern "C" {
#include "storage/shmem.h"
#include "utils/hsearch.h"
}

namespace seal::pg {

namespace {
HTAB* table; // RelFileNode -> Transition, under Lock::transition
}

Size transition_shmem_size() { return hash_estimate_size(kMaxTransitions, sizeof(Transition)); }

void transition_shmem_init(void*)
{
	HASHCTL control = {};
	control.keysize = sizeof(RelFileNode);
	control.entrysize = sizeof(Transition);
	table = ShmemInitHash("pg_seal transitions", kMaxTransitions, kMaxTransitions, &control, HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
}

Transition* transition_entry(const RelFileNode& node) noexcept
{
	LWLockAcquire(seal_lock(Lock::transition), LW_SHARED);
	Transition* entry = transition_find_locked(node);
	LWLockRelease(seal_lock(Lock::transition));
	if (entry)
		return entry;
	LWLockAcquire(seal_lock(Lock::transition), LW_EXCLUSIVE);
	bool found;
	entry = static_cast<Transition*>(hash_search(table, &node, HASH_ENTER_NULL, &found));
	if (entry && !found)
		pg_atomic_init_u64(&entry->old_writes, 0);
	LWLockRelease(seal_lock(Lock::transition));
	return entry;
}

Transition* transition_find_locked(const RelFileNode& node) noexcept
{
	return static_cast<Transition*>(hash_search(table, &node, HASH_FIND, nullptr));
}

void transition_forget(const RelFileNode& node) noexcept
{
	if (hash_get_num_entries(table) == 0)
		return; // the usual case, without the lock: an entry that is being made now is of another relation
	LWLockAcquire(seal_lock(Lock::transition), LW_EXCLUSIVE);
	(void)hash_search(table, &node, HASH_REMOVE, nullptr);
	LWLockRelease(seal_lock(Lock::transition));
}

void transition_forget_database(Oid database) noexcept
{
	LWLockAcquire(seal_lock(Lock::transition), LW_EXCLUSIVE);
	HASH_SEQ_STATUS scan;
	hash_seq_init(&scan, table);
	while (auto* entry = static_cast<Transition*>(hash_seq_search(&scan)))
		if (entry->node.dbNode == database)
			(void)hash_search(table, &entry->node, HASH_REMOVE, nullptr);
	LWLockRelease(seal_lock(Lock::transition));
}

void transition_old_writes(const TransitionItem* items, uint64* old_writes, int count) noexcept
{
	LWLockAcquire(seal_lock(Lock::transition), LW_EXCLUSIVE); // waits for those that are counted but not yet on disk
	for (int i = 0; i < count; ++i)
		old_writes[i] = items[i].entry ? pg_atomic_read_u64(&items[i].entry->old_writes) : 0;
	LWLockRelease(seal_lock(Lock::transition));
}

int transition_count() noexcept
{
	LWLockAcquire(seal_lock(Lock::transition), LW_SHARED);
	const long count = hash_get_num_entries(table);
	LWLockRelease(seal_lock(Lock::transition));
	return static_cast<int>(count);
}

} // namespace seal::pg
