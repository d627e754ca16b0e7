// Throwaway DEKs of recovery (docs/architecture.md, "Recovery with a missing key").
//
// They outlive a crash-restart, like the rest of the vault: redo that starts over meets pages that its first run wrote.
#include "vault_layout.hpp"

#include "seal/secret.hpp"

namespace seal::pg {

using namespace vault;

namespace {

struct RelationMatch {
	RelationId id;
	bool operator()(const ThrowawayEntry& e) const noexcept
	{
		return get(e.rel_node) == id.rel_node && get(e.database) == id.database && get(e.tablespace) == id.tablespace;
	}
};

ThrowawayEntry* find(const RelationId& id, ThrowawayEntry** place) noexcept
{
	return probe(vault::vault->throwaways, kThrowawayCapacity, mix(id.database, id.tablespace, id.rel_node),
	             RelationMatch{id}, place);
}

bool copy_seed(const RelationId& id, uint8* seed) noexcept
{
	for (;;) {
		ThrowawayEntry* entry = find(id, nullptr);
		if (!entry)
			return false;
		const uint32 seen = entry->word.acquire();
		if ((seen & kStateMask) == ready && RelationMatch{id}(*entry)) {
			entry->seed.load(seed);
			if (entry->word.still(seen))
				return true;
			wipe(seed, kDekSeedSize);
		}
	}
}

void forget_locked(ThrowawayEntry& entry) noexcept
{
	entry.word.begin();
	entry.seed.wipe();
	entry.word.finish(forgotten);
	set(vault::vault->throwaway_count, get(vault::vault->throwaway_count) - 1);
}

bool none() noexcept { return !vault::vault || vault::vault->throwaway_count.load(std::memory_order_acquire) == 0; }

} // namespace

bool vault_throwaway(const RelationId& relation, uint8 seed[kDekSeedSize]) noexcept
{
	if (!vault::vault)
		return false;
	if (!none() && copy_seed(relation, seed))
		return true;
	if (!new_dek_seed(seed))
		return false;
	SpinGuard guard;
	ThrowawayEntry* place;
	if (ThrowawayEntry* other = find(relation, &place)) { // another process was first
		other->seed.load(seed);
		return true;
	}
	if (!place || get(vault::vault->throwaway_count) >= kMaxThrowaways) {
		wipe(seed, kDekSeedSize);
		return false;
	}
	place->word.begin();
	set(place->database, relation.database);
	set(place->tablespace, relation.tablespace);
	set(place->rel_node, relation.rel_node);
	place->seed.store(seed);
	place->word.finish(ready);
	set(vault::vault->throwaway_count, get(vault::vault->throwaway_count) + 1);
	return true;
}

bool vault_throwaway_exists(const RelationId& relation) noexcept
{
	return !none() && find(relation, nullptr) != nullptr;
}

void vault_throwaway_forget(const RelationId& relation) noexcept
{
	if (none())
		return;
	SpinGuard guard;
	if (ThrowawayEntry* entry = find(relation, nullptr))
		forget_locked(*entry);
}

void vault_throwaway_forget_database(uint32 database) noexcept
{
	if (none())
		return;
	for (ThrowawayEntry& entry : vault::vault->throwaways) {
		if (entry.word.state() != ready || get(entry.database) != database)
			continue;
		SpinGuard guard;
		if (entry.word.state() == ready && get(entry.database) == database)
			forget_locked(entry);
	}
}

bool vault_throwaway_any(RelationId* first) noexcept
{
	if (none())
		return false;
	for (const ThrowawayEntry& entry : vault::vault->throwaways)
		if (entry.word.state() == ready) {
			*first = {get(entry.database), get(entry.tablespace), get(entry.rel_node)};
			return true;
		}
	return false;
}

namespace vault {

void reset_throwaways() noexcept
{
	uint32 count = 0;
	for (ThrowawayEntry& entry : vault->throwaways) {
		if (entry.word.state() == writing) {
			entry.seed.wipe();
			entry.word.finish(forgotten);
		}
		count += entry.word.state() == ready;
	}
	set(vault->throwaway_count, count);
}

} // namespace vault

} // namespace seal::pg
