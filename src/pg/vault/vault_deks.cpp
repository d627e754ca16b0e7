// DEKs of 'hsm' keyrings: the table of unlocked ones and the pool of new ones, wrapped beforehand.
#include "vault_layout.hpp"

#include "../agent_client/agent_client.hpp"

#include "seal/crypto.hpp"
#include "seal/secret.hpp"

#include <ctime>

namespace seal::pg {

using namespace vault;

namespace {

// The name of a DEK. False: the library refused, and the DEK counts as not here.
bool digest_of(uint32 keyring, const uint8* wrapped, uint32 size, uint8 digest[kDigestSize]) noexcept
{
	uint8 input[sizeof(uint32) + kWrappedSeedMax], full[kSha256Size];
	if (size > kWrappedSeedMax)
		return false;
	memcpy(input, &keyring, sizeof keyring);
	memcpy(input + sizeof keyring, wrapped, size);
	if (!sha256({input, sizeof keyring + size}, full))
		return false;
	memcpy(digest, full, kDigestSize);
	return true;
}

struct DekMatch {
	uint32 keyring;
	const uint8* digest;
	bool operator()(const DekEntry& e) const noexcept { return get(e.keyring) == keyring && e.digest.equal(digest); }
};

uint32 hash_of(const uint8* digest) noexcept
{
	uint32 hash;
	memcpy(&hash, digest, sizeof hash);
	return hash;
}

DekEntry* find(uint32 keyring, const uint8* digest, DekEntry** place) noexcept
{
	return probe(vault::vault->deks, vault::vault->dek_capacity, hash_of(digest), DekMatch{keyring, digest}, place);
}

bool put_locked(uint32 keyring, const uint8* digest, const uint8* seed) noexcept
{
	DekEntry* place;
	if (find(keyring, digest, &place))
		return true;
	if (!place || get(vault::vault->dek_count) >= vault::vault->dek_limit)
		return false;
	place->word.begin();
	set(place->keyring, keyring);
	set(place->pass, 0);
	set(place->entered_at, static_cast<uint32>(time(nullptr)));
	place->digest.store(digest);
	place->seed.store(seed);
	place->word.finish(ready);
	set(vault::vault->dek_count, get(vault::vault->dek_count) + 1);
	return true;
}

void forget_locked(DekEntry& entry) noexcept
{
	entry.word.begin();
	entry.seed.wipe();
	entry.word.finish(forgotten);
	set(vault::vault->dek_count, get(vault::vault->dek_count) - 1);
}

void drop_locked(PoolEntry& entry) noexcept
{
	entry.word.begin();
	wipe(entry.seed, sizeof entry.seed);
	entry.word.finish(free_entry); // the pool has no probe chains
}

// Calls `test` on every ready entry and forgets those it names, a short hold of the spinlock at a time.
template <class Test> int forget_if(Test test) noexcept
{
	int count = 0;
	for (uint32 i = 0; i < vault::vault->dek_capacity; i++) {
		DekEntry& entry = vault::vault->deks[i];
		if (entry.word.state() != ready || !test(entry))
			continue;
		SpinGuard guard;
		if (entry.word.state() == ready && test(entry)) {
			forget_locked(entry);
			count++;
		}
	}
	return count;
}

} // namespace

bool vault_put_dek(uint32 keyring, const uint8* wrapped, uint32 size, const uint8 seed[kDekSeedSize]) noexcept
{
	uint8 digest[kDigestSize];
	if (!vault::vault || !digest_of(keyring, wrapped, size, digest))
		return false;
	SpinGuard guard;
	return put_locked(keyring, digest, seed);
}

bool vault_get_dek(uint32 keyring, const uint8* wrapped, uint32 size, uint8 seed[kDekSeedSize]) noexcept
{
	uint8 digest[kDigestSize];
	if (!vault::vault || !digest_of(keyring, wrapped, size, digest))
		return false;
	for (;;) {
		DekEntry* entry = find(keyring, digest, nullptr);
		if (!entry)
			return false;
		const uint32 seen = entry->word.acquire();
		if ((seen & kStateMask) == ready && DekMatch{keyring, digest}(*entry)) {
			entry->seed.load(seed);
			if (entry->word.still(seen))
				return true;
			wipe(seed, kDekSeedSize);
		}
	}
}

uint32 vault_dek_begin_pass() noexcept
{
	if (!vault::vault)
		return 0;
	SpinGuard guard;
	set(vault::vault->dek_pass, get(vault::vault->dek_pass) + 1);
	return get(vault::vault->dek_pass);
}

bool vault_dek_mark(uint32 keyring, const uint8* wrapped, uint32 size, uint32 pass) noexcept
{
	uint8 digest[kDigestSize];
	if (!vault::vault || !digest_of(keyring, wrapped, size, digest))
		return false;
	SpinGuard guard;
	DekEntry* entry = find(keyring, digest, nullptr);
	if (!entry)
		return false;
	set(entry->pass, pass); // not part of what readers copy
	return true;
}

int vault_dek_sweep(uint32 pass, uint32 grace_s) noexcept
{
	if (!vault::vault)
		return 0;
	const uint32 now = static_cast<uint32>(time(nullptr));
	return forget_if([&](const DekEntry& e) { return get(e.pass) != pass && now - get(e.entered_at) > grace_s; });
}

void vault_dek_usage(uint32* used, uint32* capacity) noexcept
{
	*used = vault::vault ? get(vault::vault->dek_count) : 0;
	*capacity = vault::vault ? vault::vault->dek_limit : 0;
}

bool vault_pool_take(uint32 keyring, PooledDek* out) noexcept
{
	if (!vault::vault)
		return false;
	bool taken = false;
	int left = 0;
	{
		SpinGuard guard;
		for (PoolEntry& entry : vault::vault->pool) {
			if (entry.word.state() != ready || get(entry.keyring) != keyring)
				continue;
			if (taken) {
				left++;
				continue;
			}
			if (!put_locked(keyring, entry.digest, entry.seed))
				break; // the table is full: the key could not be found again, so none is handed out
			out->keyring = keyring;
			out->kek_version = entry.kek_version;
			out->mechanism = entry.mechanism;
			out->wrapped_size = entry.wrapped_size;
			memcpy(out->wrapped, entry.wrapped, sizeof out->wrapped);
			memcpy(out->seed, entry.seed, sizeof out->seed);
			drop_locked(entry);
			taken = true;
		}
	}
	if (left < kPoolTarget / 2)
		agent_wake();
	return taken;
}

int vault_pool_count(uint32 keyring) noexcept
{
	int count = 0;
	if (vault::vault)
		for (const PoolEntry& entry : vault::vault->pool)
			count += entry.word.state() == ready && get(entry.keyring) == keyring;
	return count;
}

bool vault_pool_put(const PooledDek& dek) noexcept
{
	uint8 digest[kDigestSize];
	if (!vault::vault || !digest_of(dek.keyring, dek.wrapped, dek.wrapped_size, digest))
		return false;
	SpinGuard guard;
	for (PoolEntry& entry : vault::vault->pool) {
		if (entry.word.state() != free_entry)
			continue;
		entry.word.begin();
		set(entry.keyring, dek.keyring);
		entry.kek_version = dek.kek_version;
		entry.mechanism = dek.mechanism;
		entry.wrapped_size = dek.wrapped_size;
		memcpy(entry.wrapped, dek.wrapped, sizeof entry.wrapped);
		memcpy(entry.seed, dek.seed, sizeof entry.seed);
		memcpy(entry.digest, digest, sizeof digest);
		entry.word.finish(ready);
		return true;
	}
	return false;
}

void vault_pool_drop_older(uint32 keyring, uint32 kek_version) noexcept
{
	if (!vault::vault)
		return;
	SpinGuard guard;
	for (PoolEntry& entry : vault::vault->pool)
		if (entry.word.state() == ready && get(entry.keyring) == keyring && entry.kek_version < kek_version)
			drop_locked(entry);
}

namespace vault {

void forget_deks_of_keyring(uint32 keyring) noexcept
{
	vault_pool_drop_older(keyring, UINT32_MAX);
	forget_if([&](const DekEntry& e) { return get(e.keyring) == keyring; });
}

void reset_deks() noexcept
{
	uint32 count = 0;
	for (uint32 i = 0; i < vault->dek_capacity; i++) {
		DekEntry& entry = vault->deks[i];
		if (entry.word.state() == writing) {
			entry.seed.wipe();
			entry.word.finish(forgotten);
		}
		count += entry.word.state() == ready;
	}
	set(vault->dek_count, count);
	for (PoolEntry& entry : vault->pool)
		if (entry.word.state() == writing)
			drop_locked(entry);
}

} // namespace vault

} // namespace seal::pg
