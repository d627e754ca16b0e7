#include "agent_worker_keys.hpp"

#include "../agent_client/agent_slots.hpp"
#include "../vault/vault.hpp"
#include "../wal/wal_keys.hpp"

#include "seal/crypto.hpp"

#include <algorithm>
#include <memory>

namespace seal::pg {

namespace {

constexpr int kPoolRoom = 1024; // of all keyrings together, in the vault

bool have_key(std::uint32_t keyring, std::uint32_t version)
{
	std::uint8_t key[kKeyringKeySize];
	const bool found = vault_get_keyring_key(keyring, version, key);
	wipe(key, sizeof key);
	return found;
}

Error wrong_length() { return {ErrorCode::protocol, "the key agent answered with a value of a wrong length"}; }

} // namespace

void KeyLoader::registry_changed()
{
	gates_.retry_now();
	proven_.clear();
	std::vector<uint32> ids(2 * kMaxKeyringKeys);
	const int count = vault_keyring_ids(ids.data(), static_cast<int>(ids.size()));
	for (int i = 0; i < count; i++) {
		const uint32 id = ids[static_cast<std::size_t>(i)];
		if (const KeyringDef* keyring = registry_.keyring(id)) {
			if (!keyring->keks.empty())
				vault_pool_drop_older(id, keyring->keks.back().version);
			continue;
		}
		vault_forget_keyring(id);
		ereport(LOG, (errmsg("pg_seal agent: forgot the keys of dropped keyring %u", id)));
	}
}

bool KeyLoader::any_hsm() const noexcept
{
	return std::any_of(registry_.keyrings().begin(), registry_.keyrings().end(),
	                   [](const KeyringDef& k) { return k.protection == "hsm"; });
}

bool KeyLoader::gates_open(const KeyringDef& keyring, const KekVersion& kek, std::int64_t now) const
{
	return gates_.open(gate_of_provider(kek.provider), now) && gates_.open(gate_of_keyring(keyring.name), now);
}

void KeyLoader::failed(const KeyringDef& keyring, const std::string& provider, const Error& error, std::int64_t now)
{
	gates_.failed(is_provider_failure(error.code) ? gate_of_provider(provider) : gate_of_keyring(keyring.name), error,
	              now);
}

void KeyLoader::worked(const std::string& keyring, const std::string& provider)
{
	gates_.worked(gate_of_provider(provider));
	gates_.worked(gate_of_keyring(keyring));
}

bool KeyLoader::kek_ready(const KeyringDef& keyring, const KekVersion& kek, std::int64_t now)
{
	if (!gates_open(keyring, kek, now))
		return false;
	if (proven_.contains({keyring.id, kek.version}))
		return true;
	prove(keyring, kek, now);
	return false;
}

void KeyLoader::tick(std::int64_t now)
{
	const auto hsm_keyrings = std::count_if(registry_.keyrings().begin(), registry_.keyrings().end(),
	                                        [](const KeyringDef& k) { return k.protection == "hsm"; });
	const int pool_target = std::min(kPoolTarget, kPoolRoom / std::max(1, static_cast<int>(hsm_keyrings)));
	for (const KeyringDef& keyring : registry_.keyrings()) {
		for (const KeyringKey& key : keyring.keys) {
			const KekVersion* kek = RegistryCopy::kek(keyring, key.kek_version);
			if (kek && !have_key(keyring.id, key.version) && kek_ready(keyring, *kek, now))
				unwrap(keyring, key, *kek, now);
		}
		if (keyring.protection != "hsm" || keyring.keks.empty() || keyring.keks.back().state != "active")
			continue;
		const int pooled = vault_pool_count(keyring.id);
		if (pooled <= pool_target / 2 && kek_ready(keyring, keyring.keks.back(), now))
			fill_pool(keyring, keyring.keks.back(), pool_target - pooled, now);
	}
}

void KeyLoader::prove(const KeyringDef& keyring, const KekVersion& kek, std::int64_t now)
{
	const TaskId id{Task::prove, keyring.id, kek.version};
	if (!begin(id))
		return;
	Result<AgentRequest> request = registry_.request(AgentOp::unwrap, kek);
	if (!request) {
		under_way_.erase(id);
		return failed(keyring, kek.provider, request.error(), now);
	}
	request->aad = kek_check_aad(keyring.uuid_hex, kek.version);
	request->blobs.push_back(kek.check);
	jobs_.submit(*request, [this, id, keyring, kek](Result<AgentReply> reply) {
		under_way_.erase(id);
		const Error swapped(ErrorCode::key_mismatch,
		                    "the key-encryption key \"" + kek.ref.label + "\" of provider \"" + kek.provider +
		                        "\" is not the one that wrapped its keys",
		                    "Point the provider at the token that holds the original key, or put that key back.");
		if (!reply) {
			const bool denied = reply.error().code == ErrorCode::authentication_failed;
			return failed(keyring, kek.provider, denied ? swapped : reply.error(), monotonic_us());
		}
		std::uint8_t digest[kSha256Size];
		if (reply->secrets.size() != 1 || !sha256(reply->secrets[0].reveal(RevealToken{}), digest))
			return failed(keyring, kek.provider, wrong_length(), monotonic_us());
		if (to_hex(digest) != kek.check_digest)
			return failed(keyring, kek.provider, swapped, monotonic_us());
		proven_.insert({keyring.id, kek.version});
		worked(keyring.name, kek.provider);
	});
}

void KeyLoader::unwrap(const KeyringDef& keyring, const KeyringKey& key, const KekVersion& kek, std::int64_t now)
{
	const TaskId id{Task::unwrap, keyring.id, key.version};
	if (!begin(id))
		return;
	Result<AgentRequest> request = registry_.request(AgentOp::unwrap, kek);
	if (!request) {
		under_way_.erase(id);
		return failed(keyring, kek.provider, request.error(), now);
	}
	request->aad = keyring_key_aad(keyring.uuid_hex, key.version);
	request->blobs.push_back(key.wrapped);
	jobs_.submit(*request, [this, id, keyring, kek, version = key.version](Result<AgentReply> reply) {
		under_way_.erase(id);
		if (!reply)
			return failed(keyring, kek.provider, reply.error(), monotonic_us());
		if (reply->secrets.size() != 1 || reply->secrets[0].size() != kKeyringKeySize)
			return failed(keyring, kek.provider, wrong_length(), monotonic_us());
		if (!registry_.keyring(keyring.id))
			return; // dropped meanwhile
		if (!vault_put_keyring_key(keyring.id, version, reply->secrets[0].reveal(RevealToken{}).data()))
			return failed(keyring, kek.provider, {ErrorCode::unsupported, "the table of keyring keys is full"},
			              monotonic_us());
		worked(keyring.name, kek.provider);
		wal_keys_load_again(); // those that it wraps
		ereport(LOG, (errmsg("pg_seal agent: loaded version %u of keyring \"%s\"", version, keyring.name.c_str())));
	});
}

void KeyLoader::fill_pool(const KeyringDef& keyring, const KekVersion& kek, int count, std::int64_t now)
{
	const TaskId id{Task::fill, keyring.id, kek.version};
	if (count <= 0 || !begin(id))
		return;
	Result<AgentRequest> request = registry_.request(AgentOp::wrap, kek);
	const auto seeds = std::make_shared<std::vector<Secret>>();
	for (int i = 0; request && i < count; i++) {
		Secret seed(kDekSeedSize);
		if (!new_dek_seed(seed.reveal_mutable(RevealToken{}).data()))
			request = Error{ErrorCode::crypto_failure, "the random generator failed"};
		else {
			request->secrets.push_back(Secret::copy_of(seed.reveal(RevealToken{})));
			seeds->push_back(std::move(seed));
		}
	}
	if (!request) {
		under_way_.erase(id);
		return failed(keyring, kek.provider, request.error(), now);
	}
	request->aad = hsm_dek_aad(keyring.uuid_hex);
	jobs_.submit(*request, [this, id, keyring, kek, seeds](Result<AgentReply> reply) {
		under_way_.erase(id);
		if (!reply)
			return failed(keyring, kek.provider, reply.error(), monotonic_us());
		if (reply->blobs.size() != seeds->size())
			return failed(keyring, kek.provider, wrong_length(), monotonic_us());
		const KeyringDef* current = registry_.keyring(keyring.id);
		if (!current || current->keks.back().version != kek.version)
			return; // dropped or rotated meanwhile
		for (std::size_t i = 0; i < seeds->size(); i++) {
			const Bytes wrapped = reply->blobs[i].compact();
			if (wrapped.empty() || wrapped.size() > kWrappedSeedMax)
				return failed(keyring, kek.provider, wrong_length(), monotonic_us());
			PooledDek dek{};
			dek.keyring = keyring.id;
			dek.kek_version = kek.version;
			dek.mechanism = reply->blobs[i].mechanism;
			dek.wrapped_size = static_cast<uint8>(wrapped.size());
			std::copy(wrapped.begin(), wrapped.end(), dek.wrapped);
			memcpy(dek.seed, (*seeds)[i].reveal(RevealToken{}).data(), sizeof dek.seed);
			const bool put = vault_pool_put(dek);
			wipe(&dek, sizeof dek);
			if (!put)
				break; // full: what is there must do
		}
		worked(keyring.name, kek.provider);
	});
}

} // namespace seal::pg
