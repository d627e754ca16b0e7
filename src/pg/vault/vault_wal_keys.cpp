// WAL keys in the vault. Every process that reads or writes WAL takes them from here, inside critical sections too.
#include "vault_layout.hpp"

#include "seal/secret.hpp"

namespace seal::pg {

using namespace vault;

namespace {

void forget_locked(WalKeyEntry& entry) noexcept
{
	entry.word.begin();
	entry.key.wipe();
	set(entry.generation, 0);
	entry.word.finish(forgotten);
	set(vault::vault->wal_key_count, get(vault::vault->wal_key_count) - 1);
}

} // namespace

bool vault_put_wal_key(const VaultWalKey& key) noexcept
{
	if (!vault::vault || key.generation == 0)
		return false;
	SpinGuard guard;
	WalKeyEntry& entry = vault::vault->wal_keys[key.generation % kWalGenerations];
	if (entry.word.state() == ready) {
		if (get(entry.generation) >= key.generation)
			return get(entry.generation) == key.generation; // never changed in place: a generation's key is one value for good
		forget_locked(entry);
	}
	entry.word.begin();
	set(entry.generation, key.generation);
	set(entry.cipher, static_cast<uint32>(key.cipher));
	entry.key.store(key.key);
	entry.word.finish(ready);
	set(vault::vault->wal_key_count, get(vault::vault->wal_key_count) + 1);
	return true;
}

bool vault_get_wal_key(uint16 mark, VaultWalKey* out) noexcept
{
	if (!vault::vault)
		return false;
	const WalKeyEntry& entry = vault::vault->wal_keys[mark % kWalGenerations];
	for (;;) {
		const uint32 seen = entry.word.acquire();
		const State state = static_cast<State>(seen & kStateMask);
		if (state == free_entry || state == forgotten)
			return false;
		if (state == ready) {
			out->generation = get(entry.generation);
			out->cipher = static_cast<CipherId>(get(entry.cipher));
			entry.key.load(out->key);
			if (entry.word.still(seen))
				return true;
			wipe(out->key, sizeof out->key);
		}
	}
}

uint32 vault_wal_generation(uint16 mark) noexcept
{
	if (!vault::vault)
		return 0;
	const WalKeyEntry& entry = vault::vault->wal_keys[mark % kWalGenerations];
	return entry.word.state() == ready ? get(entry.generation) : 0;
}

uint32 vault_newest_wal_generation(uint32 at_most) noexcept
{
	uint32 newest = 0;
	for (uint32 mark = 0; vault::vault && mark < kWalGenerations; mark++) {
		const uint32 generation = vault_wal_generation(static_cast<uint16>(mark));
		if (generation <= at_most && generation > newest)
			newest = generation;
	}
	return newest;
}

bool vault_any_wal_key() noexcept { return vault::vault && get(vault::vault->wal_key_count) != 0; }

void vault_forget_wal_key(uint32 generation) noexcept
{
	if (!vault::vault)
		return;
	SpinGuard guard;
	WalKeyEntry& entry = vault::vault->wal_keys[generation % kWalGenerations];
	if (entry.word.state() == ready && get(entry.generation) == generation)
		forget_locked(entry);
}

void vault::reset_wal_keys() noexcept
{
	uint32 count = 0;
	for (WalKeyEntry& entry : vault::vault->wal_keys) {
		if (entry.word.state() == writing) {
			entry.key.wipe();
			entry.word.finish(forgotten);
		}
		count += entry.word.state() == ready;
	}
	set(vault::vault->wal_key_count, count);
}

} // namespace seal::pg
