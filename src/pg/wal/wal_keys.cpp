#include "wal_keys.hpp"

#include "../agent_client/agent_client.hpp"
#include "../guard.hpp"
#include "../registry/registry_store.hpp"
#include "../vault/vault.hpp"

#include "seal/secret.hpp"
#include "seal/wal_key.hpp"

extern "C" {
#include "postmaster/startup.h"
}

#include <optional>

namespace seal::pg {

namespace {

// Ciphers of the generations that this process met last. Two directions of rotation and a standby's reading behind its writing: rarely more
// than two at a time.
class CipherCache final : public WalKeys {
public:
	bool make() noexcept
	{
		for (Slot& slot : slots_)
			if (!slot.of_256.make(CipherId::aes_256_xts) || !slot.of_128.make(CipherId::aes_128_xts))
				return false;
		return true;
	}

	WalCipher* by_mark(uint16 mark, uint32* generation) noexcept override
	{
		const uint32 wanted = vault_wal_generation(mark);
		if (wanted == 0)
			return nullptr;
		*generation = wanted;
		for (Slot& slot : slots_)
			if (slot.generation == wanted) {
				slot.used = ++clock_;
				return slot.cipher;
			}
		return take_in(mark, wanted);
	}

	// A walreceiver writes far ahead of its redo: where the newest key is not loaded yet, an older one does.
	uint32 newest() noexcept override
	{
		const uint32 active = wal_active_generation();
		if (active == 0 || vault_wal_generation(static_cast<uint16>(active % kWalGenerations)) == active)
			return active;
		const uint32 older = vault_newest_wal_generation(active);
		return older != 0 ? older : active;
	}

private:
	struct Slot {
		uint32 generation = 0;
		uint64 used = 0;
		WalCipher* cipher = nullptr;
		WalCipher of_256, of_128;
	};

	WalCipher* take_in(uint16 mark, uint32 wanted) noexcept
	{
		VaultWalKey key;
		if (!vault_get_wal_key(mark, &key) || key.generation != wanted)
			return nullptr;
		Slot* oldest = &slots_[0];
		for (Slot& slot : slots_)
			if (slot.used < oldest->used)
				oldest = &slot;
		oldest->generation = 0;
		oldest->cipher = key.cipher == CipherId::aes_128_xts ? &oldest->of_128 : &oldest->of_256;
		const bool set = (key.cipher == CipherId::aes_128_xts || key.cipher == CipherId::aes_256_xts) &&
		                 oldest->cipher->set_key(key.key);
		wipe(key.key, sizeof key.key);
		if (!set)
			return nullptr;
		oldest->generation = wanted;
		oldest->used = ++clock_;
		return oldest->cipher;
	}

	static constexpr int kSlots = 4;
	Slot slots_[kSlots];
	uint64 clock_ = 0;
};

alignas(CipherCache) char cache_memory[sizeof(CipherCache)]; // never destroyed: a process may write WAL until its very end
CipherCache* cache;

// Does the registry on disk name a key of this mark, under a keyring that exists?
struct Wanted {
	bool known = false;
	uint32 keyring_id = 0;
};
Wanted look_up(uint16 mark) noexcept
{
	Wanted wanted;
	try {
		const Registry registry = registry_read();
		const WalKeysDef keys = registry.wal_keys();
		for (const WalKeyDef& key : keys.keys)
			if (key.generation % kWalGenerations == mark)
				for (const KeyringDef& keyring : registry.keyrings())
					if (keyring.id == key.keyring_id)
						wanted = {true, key.keyring_id};
	} catch (const SealError&) { // unreadable: then it names nothing
	} catch (const std::exception&) {
	}
	return wanted;
}

} // namespace

void wal_ciphers_make()
{
	cache = new (cache_memory) CipherCache;
	if (!cache->make())
		ereport(FATAL, (errmsg("pg_seal: the cryptographic library offers no AES-XTS for WAL"),
		                errhint("Check the OpenSSL installation and its configuration file.")));
}

WalKeys& wal_keys() noexcept { return *cache; }

void wal_keys_load(const Registry& registry)
{
	const WalKeysDef keys = registry.wal_keys();
	if (keys.keys.empty())
		return;
	const std::vector<KeyringDef> keyrings = registry.keyrings();
	for (const WalKeyDef& def : keys.keys) {
		if (vault_wal_generation(static_cast<uint16>(def.generation % kWalGenerations)) == def.generation)
			continue;
		const KeyringDef* keyring = nullptr;
		for (const KeyringDef& each : keyrings)
			if (each.id == def.keyring_id)
				keyring = &each;
		uint8 keyring_key[kKeyringKeySize];
		if (!keyring || !vault_get_keyring_key(def.keyring_id, def.keyring_version, keyring_key))
			continue;
		VaultWalKey key = {def.generation, def.cipher, {}};
		const bool opened = wal_key_open(def, keyring->uuid_hex, keyring_key, key.key);
		wipe(keyring_key, sizeof keyring_key);
		const bool put = opened && vault_put_wal_key(key);
		wipe(key.key, sizeof key.key);
		if (!opened)
			raise({ErrorCode::corrupt,
			       "generation " + std::to_string(def.generation) + " of the WAL key does not verify under keyring \"" + keyring->name + "\"",
			       "The file \"" + std::string(kRegistryPath) + "\" is damaged or was altered: restore it from a backup or a standby."});
		if (!put)
			raise({ErrorCode::unsupported, "no room for generation " + std::to_string(def.generation) + " of the WAL key"});
	}
}

void wal_keys_load_again() noexcept
{
	char message[512];
	try {
		wal_keys_load(registry_read());
		return;
	} catch (const SealError& e) {
		strlcpy(message, e.error.message.c_str(), sizeof message);
	} catch (const std::exception& e) {
		strlcpy(message, e.what(), sizeof message);
	}
	ereport(WARNING, (errmsg("could not load the WAL keys: %s", message)));
}

bool wal_key_await(uint16 mark)
{
	if (!AmStartupProcess())
		return false;
	for (int waited_ms = 0;; waited_ms += 50) {
		const Wanted wanted = look_up(mark);
		if (!wanted.known)
			return false;
		wal_keys_load_again();
		if (vault_wal_generation(mark) != 0)
			return true;
		if (waited_ms % 10000 == 0) {
			ereport(LOG, (errmsg("recovery waits for the key agent to load keyring id %u, which protects a WAL key", wanted.keyring_id)));
			agent_want_keyring(wanted.keyring_id);
		}
		pg_usleep(50 * 1000);
		HandleStartupProcInterrupts();
	}
}

} // namespace seal::pg
