#include "key_index.hpp"

#include "../guc.hpp"
#include "../shmem.hpp"

extern "C" {
#include "port/atomics.h"
}

#include <cstring>

namespace seal::pg {

namespace {

constexpr uint32 kEpochs = 4096;

struct Entry {
	SlotKey key;
	uint32 slot_plus_one; // 0: free
};
static_assert(sizeof(Entry) == 16);

struct Shared {
	pg_atomic_uint32 epochs[kEpochs];
	pg_atomic_uint32 file_writes; // odd: one runs
	DatabaseKeys databases[kMaxIndexedDatabases];
	int database_hint; // where the last one was found
	int next_victim;
	uint32 mask, used, limit;
	Entry entries[FLEXIBLE_ARRAY_MEMBER];
};
Shared* shared;

uint32 capacity() noexcept
{
	uint32 size = 1024;
	while (size < static_cast<uint32>(guc_max_relations) + static_cast<uint32>(guc_max_relations) / 3)
		size *= 2;
	return size;
}

inline uint32 home(const SlotKey& key) noexcept
{
	uint64 h = (uint64{key.rel_node} << 32 | key.tablespace) * 0x9E3779B97F4A7C15ull;
	h = (h ^ key.database ^ h >> 29) * 0xBF58476D1CE4E5B9ull;
	return static_cast<uint32>(h >> 32) & shared->mask;
}

inline bool same(const SlotKey& a, const SlotKey& b) noexcept
{
	return a.rel_node == b.rel_node && a.tablespace == b.tablespace && a.database == b.database;
}

uint32 find_entry(const SlotKey& key) noexcept
{
	for (uint32 i = home(key);; i = (i + 1) & shared->mask) {
		if (shared->entries[i].slot_plus_one == 0)
			return kNoSlot;
		if (same(shared->entries[i].key, key))
			return i;
	}
}

// Linear probing without grave stones: later members of the run move back over the hole.
void remove_entry(uint32 hole) noexcept
{
	for (uint32 i = (hole + 1) & shared->mask; shared->entries[i].slot_plus_one != 0; i = (i + 1) & shared->mask) {
		const uint32 wanted = home(shared->entries[i].key);
		if (((i - wanted) & shared->mask) >= ((i - hole) & shared->mask)) {
			shared->entries[hole] = shared->entries[i];
			hole = i;
		}
	}
	shared->entries[hole] = {};
	--shared->used;
}

void bump_all() noexcept
{
	for (pg_atomic_uint32& epoch : shared->epochs)
		pg_atomic_fetch_add_u32(&epoch, 1);
}

void forget(DatabaseKeys* database) noexcept
{
	const Oid oid = database->database;
	*database = {};
	for (bool again = true; again;) { // a run that wraps around may bring entries back behind the cursor
		again = false;
		for (uint32 i = 0; i <= shared->mask; ++i)
			while (shared->entries[i].slot_plus_one != 0 && shared->entries[i].key.database == oid) {
				remove_entry(i);
				again = true;
			}
	}
	bump_all();
}

} // namespace

Size key_index_shmem_size() { return offsetof(Shared, entries) + std::size_t{capacity()} * sizeof(Entry); }

void key_index_init(void* memory)
{
	shared = static_cast<Shared*>(memory);
	memset(memory, 0, key_index_shmem_size());
	for (pg_atomic_uint32& epoch : shared->epochs)
		pg_atomic_init_u32(&epoch, 1);
	pg_atomic_init_u32(&shared->file_writes, 0);
	shared->mask = capacity() - 1;
	shared->limit = capacity() / 4 * 3;
}

DatabaseKeys* key_index_database_locked(Oid database) noexcept
{
	const int hint = shared->database_hint;
	if (shared->databases[hint].in_use && shared->databases[hint].database == database)
		return &shared->databases[hint];
	for (int i = 0; i < kMaxIndexedDatabases; ++i)
		if (shared->databases[i].in_use && shared->databases[i].database == database) {
			shared->database_hint = i; // a hint: racing writers under the shared lock do no harm
			return &shared->databases[i];
		}
	return nullptr;
}

DatabaseKeys* key_index_add_database_locked(Oid database) noexcept
{
	DatabaseKeys* place = nullptr;
	for (DatabaseKeys& candidate : shared->databases)
		if (!candidate.in_use) {
			place = &candidate;
			break;
		}
	if (!place) {
		place = &shared->databases[shared->next_victim];
		shared->next_victim = (shared->next_victim + 1) % kMaxIndexedDatabases;
		forget(place);
	}
	*place = {};
	place->database = database;
	place->in_use = true;
	return place;
}

void key_index_forget_database_locked(Oid database) noexcept
{
	if (DatabaseKeys* entry = key_index_database_locked(database))
		forget(entry);
}

void key_index_forget_all_locked() noexcept
{
	memset(shared->databases, 0, sizeof shared->databases);
	memset(shared->entries, 0, std::size_t{shared->mask + 1} * sizeof(Entry));
	shared->used = 0;
	bump_all();
}

uint32 key_index_find_locked(const SlotKey& key) noexcept
{
	const uint32 i = find_entry(key);
	return i == kNoSlot ? kNoSlot : shared->entries[i].slot_plus_one - 1;
}

bool key_index_put_locked(const SlotKey& key, uint32 slot) noexcept
{
	uint32 i = home(key);
	for (; shared->entries[i].slot_plus_one != 0; i = (i + 1) & shared->mask)
		if (same(shared->entries[i].key, key)) {
			shared->entries[i].slot_plus_one = slot + 1;
			return true;
		}
	if (shared->used >= shared->limit)
		return false;
	shared->entries[i] = {key, slot + 1};
	++shared->used;
	return true;
}

void key_index_remove_locked(const SlotKey& key) noexcept
{
	const uint32 i = find_entry(key);
	if (i != kNoSlot)
		remove_entry(i);
}

namespace {
inline pg_atomic_uint32* epoch_of(Oid rel_node) noexcept
{
	return &shared->epochs[(rel_node ^ rel_node >> 12) % kEpochs];
}
} // namespace

void key_index_bump_epoch(Oid rel_node) noexcept { pg_atomic_fetch_add_u32(epoch_of(rel_node), 1); }
uint32 key_index_epoch(Oid rel_node) noexcept { return pg_atomic_read_u32(epoch_of(rel_node)); }

void key_index_file_write(bool begins) noexcept
{
	Assert((pg_atomic_read_u32(&shared->file_writes) % 2 == 0) == begins);
	(void)begins;
	 pg_atomic_fetch_add_u32(&shared->file_writes, 1); // a full barrier
}

uint32 key_index_file_writes() noexcept
{
	pg_memory_barrier();
	return pg_atomic_read_u32(&shared->file_writes);
}

KeyIndexUse key_index_use() noexcept
{
	KeyIndexUse use = {};
	LWLockAcquire(seal_lock(Lock::keymap), LW_SHARED);
	use.entries = shared->used;
	use.capacity = shared->limit;
	for (const DatabaseKeys& database : shared->databases) {
		use.databases += database.in_use;
		use.overflowed += database.in_use && database.overflow;
	}
	LWLockRelease(seal_lock(Lock::keymap));
	return use;
}

} // namespace seal::pg
