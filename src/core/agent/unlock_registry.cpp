// Unlocking at start: every keyring key of every keyring, by the KEK versions that the registry names.
//
// A KEK is proven before it is used: it must open its check value, and the value must have the recorded digest. So
// "the KEK was replaced" (key_mismatch) is told apart from "a wrapped key is damaged" (corrupt). One provider object,
// hence one session, per provider name. The first failure ends it: a server with half of its keys must not start.
#include "seal/agent_protocol.hpp"
#include "seal/crypto.hpp"

#include <map>
#include <set>

namespace seal {

namespace {

class Unlocker {
public:
	Unlocker(const Registry& registry, const std::string& overrides) : overrides_(overrides)
	{
		for (ProviderDef& definition : registry.providers())
			definitions_.emplace(definition.name, std::move(definition));
	}

	Status unlock(const KeyringDef& keyring, std::vector<UnlockedKey>& out)
	{
		std::set<std::uint32_t> needed;
		for (const KeyringKey& key : keyring.keys)
			needed.insert(key.kek_version);
		if (!keyring.keks.empty())
			needed.insert(keyring.keks.back().version); // what is made from now on is wrapped by this one
		for (std::uint32_t version : needed) {
			const KekVersion* kek = find_kek(keyring, version);
			if (!kek)
				return Error(ErrorCode::corrupt,
				             "keyring '" + keyring.name + "' names version " + std::to_string(version) +
				                 " of its key-encryption key, which the registry does not hold",
				             "Restore pg_seal/registry from a backup or a standby.");
			Status status = unlock_under(keyring, *kek, out);
			if (!status)
				return named(keyring, *kek, status.error());
		}
		return ok_status();
	}

private:
	static const KekVersion* find_kek(const KeyringDef& keyring, std::uint32_t version)
	{
		for (const KekVersion& kek : keyring.keks)
			if (kek.version == version)
				return &kek;
		return nullptr;
	}

	static Error named(const KeyringDef& keyring, const KekVersion& kek, const Error& error)
	{
		return {error.code, "keyring '" + keyring.name + "', provider '" + kek.provider + "': " + error.message,
		        error.hint};
	}

	Result<Provider*> provider(const std::string& name)
	{
		if (const auto open = open_.find(name); open != open_.end())
			return open->second.get();
		const auto definition = definitions_.find(name);
		if (definition == definitions_.end())
			return Error(ErrorCode::not_found, "the registry does not define this provider",
			             "Restore pg_seal/registry from a backup or a standby.");
		Result<std::string> config = merge_overrides(name, definition->second.config_json, overrides_);
		if (!config)
			return config.error();
		Result<std::unique_ptr<Provider>> opened = open_provider(definition->second.kind, *config);
		if (!opened)
			return opened.error();
		return open_.emplace(name, std::move(*opened)).first->second.get();
	}

	Status unlock_under(const KeyringDef& keyring, const KekVersion& kek, std::vector<UnlockedKey>& out)
	{
		Result<Provider*> found = provider(kek.provider);
		if (!found)
			return found.error();
		Provider& device = **found;
		if (Status proven = prove(device, keyring, kek); !proven)
			return proven;
		for (const KeyringKey& key : keyring.keys) {
			if (key.kek_version != kek.version)
				continue;
			Result<std::vector<Secret>> secrets =
				device.unwrap(kek.ref, {&key.wrapped, 1}, keyring_key_aad(keyring.uuid_hex, key.version));
			if (!secrets && secrets.error().code != ErrorCode::authentication_failed)
				return secrets.error();
			if (!secrets || secrets->size() != 1 || (*secrets)[0].size() != kKeyringKeySize)
				return Error(ErrorCode::corrupt,
				             "the wrapped keyring key of version " + std::to_string(key.version) +
				                 " does not verify, while its key-encryption key is the right one",
				             "Restore pg_seal/registry from a backup or a standby.");
			out.push_back({keyring.id, key.version, std::move((*secrets)[0])});
		}
		return ok_status();
	}

	static Status prove(Provider& device, const KeyringDef& keyring, const KekVersion& kek)
	{
		const Error mismatch(ErrorCode::key_mismatch,
		                     "the key-encryption key '" + kek.ref.label +
		                         "' in the provider is not the one that wrapped this "
		                         "keyring's keys (version " +
		                         std::to_string(kek.version) + ")",
		                     "Point the provider at the token that holds the original key, or put that key back.");
		Result<std::vector<Secret>> value =
			device.unwrap(kek.ref, {&kek.check, 1}, kek_check_aad(keyring.uuid_hex, kek.version));
		if (!value)
			return value.error().code == ErrorCode::authentication_failed ? mismatch : value.error();
		std::uint8_t digest[kSha256Size];
		if (value->size() != 1 || !sha256((*value)[0].reveal(RevealToken{}), digest))
			return Error(ErrorCode::crypto_failure, "could not compute the digest of a check value");
		if (to_hex(digest) != kek.check_digest)
			return mismatch;
		return ok_status();
	}

	const std::string overrides_;
	std::map<std::string, ProviderDef> definitions_;
	std::map<std::string, std::unique_ptr<Provider>> open_;
};

} // namespace

UnlockReply unlock_registry(const Registry& registry, const std::string& overrides_json)
{
	UnlockReply reply;
	Unlocker unlocker(registry, overrides_json);
	for (const KeyringDef& keyring : registry.keyrings()) {
		Status status = unlocker.unlock(keyring, reply.keys);
		if (!status) {
			reply.keys.clear();
			reply.error = status.error();
			break;
		}
	}
	return reply;
}

} // namespace seal
