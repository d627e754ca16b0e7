#include "registry_tables.hpp"

#include "../guard.hpp"
#include "../shmem.hpp"

#include "seal/registry.hpp"

#include <algorithm>

namespace seal::pg {

namespace {

struct Published {
	std::atomic<uint64> turn; // its lowest bit says which copy is current
	RegistryTables copies[2];
};
static_assert(std::atomic<uint64>::is_always_lock_free);
static_assert(std::is_trivially_copyable_v<RegistryTables>);

Published* published; // in shared memory

// Runs `copy_out` on the current copy until it met one that no writer touched meanwhile.
template <class F> void read_tables(F copy_out) noexcept
{
	if (!published)
		return;
	for (;;) {
		const uint64 turn = published->turn.load(std::memory_order_acquire);
		copy_out(published->copies[turn & 1]);
		std::atomic_thread_fence(std::memory_order_acquire);
		if (published->turn.load(std::memory_order_relaxed) == turn)
			return;
	}
}

// Binary search that stays inside the table whatever it reads.
template <class Entry, class Id>
const Entry* find(const Entry* table, int count, int limit, Id Entry::*member, Id id) noexcept
{
	int low = 0, high = std::min(count, limit);
	while (low < high) {
		const int middle = low + (high - low) / 2;
		if (table[middle].*member < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < std::min(count, limit) && table[low].*member == id ? &table[low] : nullptr;
}

[[noreturn]] void too_many(const char* what, int limit)
{
	raise({ErrorCode::unsupported, "too many " + std::string(what) + " (at most " + std::to_string(limit) + ")",
	       "Drop those that are no longer needed."});
}

KeyringState state_of(const KeyringDef& keyring)
{
	KeyringState state{};
	state.exists = true;
	state.hsm = keyring.protection == "hsm";
	state.current_version = keyring.keys.empty() ? 0 : keyring.keys.back().version;
	state.current_kek_version = keyring.keks.empty() ? 0 : keyring.keks.back().version;
	// An 'hsm' keyring has a key of its own too: it authenticates the key records. New DEKs are wrapped by the KEK.
	state.usable_for_new = !keyring.keys.empty() && keyring.keys.back().state == "active";
	if (state.hsm)
		state.usable_for_new = state.usable_for_new && !keyring.keks.empty() && keyring.keks.back().state == "active";
	strlcpy(state.name, keyring.name.c_str(), sizeof state.name);
	return state;
}

} // namespace

void tables_fill(RegistryTables& tables, const Registry& registry)
{
	tables = {};
	tables.sequence = registry.sequence();
	tables.wal_active = registry.wal_keys().active;
	for (const TablespacePolicy& policy : registry.tablespaces()) {
		if (!policy.sealed)
			continue;
		if (tables.tablespace_count == kMaxTablespaces)
			too_many("sealed tablespaces", kMaxTablespaces);
		tables.tablespaces[tables.tablespace_count++] = {policy.tablespace, policy.keyring_id, policy.cipher};
	}
	for (const KeyringDef& keyring : registry.keyrings()) {
		if (tables.keyring_count == kMaxKeyrings)
			too_many("keyrings", kMaxKeyrings);
		tables.keyrings[tables.keyring_count++] = {keyring.id, state_of(keyring)};
	}
	std::sort(tables.tablespaces, tables.tablespaces + tables.tablespace_count,
	          [](const PublishedTablespace& a, const PublishedTablespace& b) { return a.tablespace < b.tablespace; });
	std::sort(tables.keyrings, tables.keyrings + tables.keyring_count,
	          [](const PublishedKeyring& a, const PublishedKeyring& b) { return a.id < b.id; });
}

void tables_publish(const RegistryTables& tables) noexcept
{
	const uint64 turn = published->turn.load(std::memory_order_relaxed) + 1;
	// A reader of turn - 2 must see the turn move before it can see these bytes change.
	std::atomic_thread_fence(std::memory_order_release);
	memcpy(&published->copies[turn & 1], &tables, sizeof tables);
	published->turn.store(turn, std::memory_order_release);
}

SealPolicy policy_of_tablespace(Oid tablespace) noexcept
{
	SealPolicy policy{false, 0, CipherId::none};
	read_tables([&](const RegistryTables& tables) {
		const auto* entry = find(tables.tablespaces, tables.tablespace_count, kMaxTablespaces,
		                         &PublishedTablespace::tablespace, tablespace);
		policy = entry ? SealPolicy{true, entry->keyring_id, entry->cipher} : SealPolicy{false, 0, CipherId::none};
	});
	return policy;
}

KeyringState keyring_state(uint32 keyring_id) noexcept
{
	KeyringState state{};
	read_tables([&](const RegistryTables& tables) {
		const auto* entry =
			find(tables.keyrings, tables.keyring_count, kMaxKeyrings, &PublishedKeyring::id, keyring_id);
		state = entry ? entry->state : KeyringState{};
	});
	return state;
}

uint32 wal_active_generation() noexcept
{
	uint32 generation = 0;
	read_tables([&](const RegistryTables& tables) { generation = tables.wal_active; });
	return generation;
}

uint64 registry_sequence() noexcept
{
	uint64 sequence = 0;
	read_tables([&](const RegistryTables& tables) { sequence = tables.sequence; });
	return sequence;
}

Size registry_shmem_size() { return sizeof(Published); }

void registry_shmem_init(void* memory)
{
	// After a crash too: what was published belongs to the shared memory that is gone, the file is the truth.
	memset(memory, 0, sizeof(Published));
	published = static_cast<Published*>(memory);
	char message[1024] = "", hint[1024] = "";
	try {
		tables_fill(published->copies[0], registry_read());
	} catch (const SealError& e) {
		strlcpy(message, e.error.message.c_str(), sizeof message);
		strlcpy(hint, e.error.hint.c_str(), sizeof hint);
	} catch (const std::exception& e) {
		strlcpy(message, e.what(), sizeof message);
	}
	if (message[0] != '\0')
		ereport(FATAL, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("could not load the key registry: %s", message),
		                hint[0] != '\0' ? errhint("%s", hint) : 0));
}

} // namespace seal::pg
