#include "seal/wal_registry.hpp"

#include <map>
#include <set>

namespace seal {

namespace {

Error missing(const WalKeyDef& key, const std::string& what)
{
	return {ErrorCode::corrupt,
	        "the WAL key of generation " + std::to_string(key.generation) + " names " + what +
	            ", which the registry does not hold",
	        "Restore pg_seal/registry from a backup or a standby."};
}

const KeyringDef* find_keyring(const std::vector<KeyringDef>& keyrings, std::uint32_t id)
{
	for (const KeyringDef& keyring : keyrings)
		if (keyring.id == id)
			return &keyring;
	return nullptr;
}

bool has_version(const KeyringDef& keyring, std::uint32_t version)
{
	for (const KeyringKey& key : keyring.keys)
		if (key.version == version)
			return true;
	return false;
}

// Only these versions of the keyring's key, and the KEKs they need. The current KEK stays: it is what unlocking proves.
void keep_versions(KeyringDef& keyring, const std::set<std::uint32_t>& versions)
{
	std::erase_if(keyring.keys, [&](const KeyringKey& key) { return versions.count(key.version) == 0; });
	std::set<std::uint32_t> keks;
	for (const KeyringKey& key : keyring.keys)
		keks.insert(key.kek_version);
	if (!keyring.keks.empty())
		keks.insert(keyring.keks.back().version);
	std::erase_if(keyring.keks, [&](const KekVersion& kek) { return keks.count(kek.version) == 0; });
}

template <class Definition> Status add(Registry& registry, const Definition& definition)
{
	return registry.apply(registry.put(definition));
}

} // namespace

Result<Registry> wal_part(const Registry& whole)
{
	const WalKeysDef wal = whole.wal_keys();
	const std::vector<KeyringDef> keyrings = whole.keyrings();
	std::map<std::uint32_t, std::set<std::uint32_t>> needed; // keyring -> versions of its key
	for (const WalKeyDef& key : wal.keys) {
		const KeyringDef* keyring = find_keyring(keyrings, key.keyring_id);
		if (!keyring)
			return missing(key, "keyring " + std::to_string(key.keyring_id));
		if (!has_version(*keyring, key.keyring_version))
			return missing(key, "version " + std::to_string(key.keyring_version) + " of the key of keyring '" +
			                        keyring->name + "'");
		needed[key.keyring_id].insert(key.keyring_version);
	}
	Registry part;
	std::set<std::string> providers;
	for (const auto& [id, versions] : needed) {
		KeyringDef keyring = *find_keyring(keyrings, id);
		keep_versions(keyring, versions);
		for (const KekVersion& kek : keyring.keks)
			providers.insert(kek.provider);
		if (Status status = add(part, keyring); !status)
			return status.error();
	}
	for (const ProviderDef& provider : whole.providers())
		if (providers.count(provider.name))
			if (Status status = add(part, provider); !status)
				return status.error();
	if (Status status = add(part, wal); !status)
		return status.error();
	return part;
}

Result<Registry> without_provider_settings(const Registry& whole)
{
	Result<Registry> part = wal_part(whole);
	if (!part)
		return part;
	for (ProviderDef provider : part->providers()) {
		provider.config_json = "{}";
		if (Status status = add(*part, provider); !status)
			return status.error();
	}
	return part;
}

} // namespace seal
