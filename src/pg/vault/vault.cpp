// The mapping itself and the keyring keys.
#include "vault_layout.hpp"

#include "seal/secret.hpp"

#include <sys/mman.h>

namespace seal::pg {

namespace vault {
constinit Vault* vault = nullptr;

namespace {
struct KeyringMatch {
	uint32 keyring, version;
	bool operator()(const KeyringEntry& e) const noexcept
	{
		return get(e.keyring) == keyring && get(e.version) == version;
	}
};

void forget(KeyringEntry& entry) noexcept
{
	entry.word.begin();
	entry.key.wipe();
	entry.word.finish(forgotten);
	set(vault->keyring_count, get(vault->keyring_count) - 1);
}
} // namespace
} // namespace vault

using namespace vault;

void vault_create(int max_hsm_keys)
{
	if (vault::vault)
		return;
	uint32 capacity = 64;
	while (capacity < 2 * static_cast<uint32>(max_hsm_keys))
		capacity *= 2;
	const Size size = sizeof(Vault) + (Size{capacity} - 1) * sizeof(DekEntry);
	void* const mapping = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (mapping == MAP_FAILED)
		ereport(FATAL, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not map %zu bytes for unlocked keys: %m", size),
		                errhint("Free memory, or lower pg_seal.max_hsm_keys.")));
	if (madvise(mapping, size, MADV_DONTDUMP) != 0)
		ereport(FATAL, (errmsg("could not exclude unlocked keys from core dumps: %m")));

	// The pages are shared, so the postmaster's lock holds them in memory for its children too, although mlock itself
	// is not inherited by fork.
	Vault* const fresh = static_cast<Vault*>(mapping); // zero bytes: every entry is free
	fresh->locked_in_memory = mlock(mapping, size) == 0;
	if (!fresh->locked_in_memory)
		ereport(WARNING,
		        (errmsg("could not lock %zu bytes of unlocked keys in memory: %m", size),
		         errdetail("The keys could be written to swap space."),
		         errhint("Raise the locked memory limit (RLIMIT_MEMLOCK; LimitMEMLOCK in a systemd unit), or encrypt "
		                 "or disable swap.")));
	fresh->dek_limit = static_cast<uint32>(max_hsm_keys);
	fresh->dek_capacity = capacity;
	SpinLockInit(&fresh->mutex);
	vault::vault = fresh;
}

void vault_reset_locks()
{
	if (!vault::vault)
		return;
	SpinLockInit(&vault::vault->mutex);
	uint32 count = 0;
	for (KeyringEntry& entry : vault::vault->keyrings) {
		if (entry.word.state() == writing) {
			entry.key.wipe();
			entry.word.finish(forgotten);
		}
		count += entry.word.state() == ready;
	}
	set(vault::vault->keyring_count, count);
	reset_deks();
	reset_throwaways();
	reset_wal_keys();
}

bool vault_locked_in_memory() noexcept { return vault::vault && vault::vault->locked_in_memory; }

void* vault_agent_region() noexcept { return vault::vault ? vault::vault->agent_region : nullptr; }

bool vault_put_keyring_key(uint32 keyring, uint32 version, const uint8 key[kKeyringKeySize]) noexcept
{
	if (!vault::vault)
		return false;
	SpinGuard guard;
	KeyringEntry* place;
	if (probe(vault::vault->keyrings, kKeyringCapacity, mix(keyring, version, 0), KeyringMatch{keyring, version},
	          &place))
		return true; // never changed in place: a version's key is one value for good
	if (!place || get(vault::vault->keyring_count) >= kMaxKeyringKeys)
		return false;
	place->word.begin();
	set(place->keyring, keyring);
	set(place->version, version);
	place->key.store(key);
	place->word.finish(ready);
	set(vault::vault->keyring_count, get(vault::vault->keyring_count) + 1);
	return true;
}

bool vault_get_keyring_key(uint32 keyring, uint32 version, uint8 key[kKeyringKeySize]) noexcept
{
	if (!vault::vault)
		return false;
	for (;;) {
		const KeyringMatch match{keyring, version};
		KeyringEntry* entry = probe(vault::vault->keyrings, kKeyringCapacity, mix(keyring, version, 0), match, nullptr);
		if (!entry)
			return false;
		const uint32 seen = entry->word.acquire();
		if ((seen & kStateMask) == ready && match(*entry)) {
			entry->key.load(key);
			if (entry->word.still(seen))
				return true;
			wipe(key, kKeyringKeySize);
		}
	}
}

void vault_forget_keyring(uint32 keyring) noexcept
{
	if (!vault::vault)
		return;
	for (KeyringEntry& entry : vault::vault->keyrings) {
		if (entry.word.state() != ready || get(entry.keyring) != keyring)
			continue;
		SpinGuard guard;
		if (entry.word.state() == ready && get(entry.keyring) == keyring)
			forget(entry);
	}
	forget_deks_of_keyring(keyring);
}

int vault_keyring_ids(uint32* ids, int max) noexcept
{
	int count = 0;
	const auto add = [&](uint32 id) {
		for (int i = 0; i < count; i++)
			if (ids[i] == id)
				return;
		if (count < max)
			ids[count++] = id;
	};
	if (!vault::vault)
		return 0;
	for (const KeyringEntry& entry : vault::vault->keyrings)
		if (entry.word.state() == ready)
			add(get(entry.keyring));
	for (const PoolEntry& entry : vault::vault->pool)
		if (entry.word.state() == ready)
			add(get(entry.keyring));
	for (uint32 i = 0; i < vault::vault->dek_capacity; i++)
		if (vault::vault->deks[i].word.state() == ready)
			add(get(vault::vault->deks[i].keyring));
	return count;
}

} // namespace seal::pg
