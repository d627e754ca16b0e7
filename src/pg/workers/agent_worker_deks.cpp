#include "agent_worker_deks.hpp"

#include "agent_worker_keyfiles.hpp"

#include "../agent_client/agent_slots.hpp"
#include "../vault/vault.hpp"

#include <algorithm>
#include <ctime>

namespace seal::pg {

namespace {

constexpr std::int64_t kSecond = 1000000;
constexpr std::int64_t kHopelessFor = 60 * kSecond;
constexpr std::int64_t kSweepEvery = 60 * kSecond;
// A DEK that was taken from the pool is in its key file long before the grace is over. A relation that was dropped longer ago is of
// interest to a recovery only that starts before the drop, and such a recovery asks for its key by name.
constexpr uint32 kGraceSeconds = 900, kShortGraceSeconds = 60;
constexpr std::size_t kMaxHopeless = 10000;

bool have_dek(std::uint32_t keyring, const std::string& wrapped)
{
	std::uint8_t seed[kDekSeedSize];
	const bool found = vault_get_dek(keyring, as_bytes(wrapped).data(), static_cast<uint32>(wrapped.size()), seed);
	wipe(seed, sizeof seed);
	return found;
}

bool fuller_than_all_but(uint32 fraction) noexcept
{
	uint32 used, capacity;
	vault_dek_usage(&used, &capacity);
	return capacity > 0 && used >= capacity - capacity / fraction;
}
bool nearly_full() noexcept { return fuller_than_all_but(4); }

} // namespace

void DekLoader::tick(std::int64_t now)
{
	collect_wishes();
	if (!keys_.any_hsm()) {
		wanted_.clear();
		return;
	}
	const bool overflow = agent_shared && agent_shared->deks_overflow.exchange(false);
	if (!walked_ || overflow || (nearly_full() && now >= next_sweep_))
		walk(now);
	for (const KeyringDef& keyring : registry_.keyrings())
		if (keyring.protection == "hsm" && !busy_.contains(keyring.id))
			start_batch(keyring, now);
	std::erase_if(wanted_, [&](const auto& wish) { return !registry_.keyring(wish.first.first); });
}

void DekLoader::collect_wishes()
{
	static WantedDek taken[kMaxWantedDeks];
	if (!agent_shared || agent_shared->wanted_count == 0) // racy on purpose: whoever adds one wakes this process
		return;
	SpinLockAcquire(&agent_shared->mutex);
	const uint32 count = agent_shared->wanted_count;
	memcpy(taken, agent_shared->wanted, count * sizeof(WantedDek));
	agent_shared->wanted_count = 0;
	SpinLockRelease(&agent_shared->mutex);
	for (uint32 i = 0; i < count; i++)
		add(taken[i].keyring, taken[i].kek_version, taken[i].wrapped, taken[i].size, monotonic_us());
}

void DekLoader::add(std::uint32_t keyring, std::uint32_t kek_version, const std::uint8_t* wrapped, std::size_t size,
                    std::int64_t now)
{
	Name name{keyring, std::string(reinterpret_cast<const char*>(wrapped), size)};
	if (const auto bad = hopeless_.find(name); bad != hopeless_.end()) {
		if (now < bad->second)
			return;
		hopeless_.erase(bad);
	}
	if (wanted_.contains(name) || have_dek(keyring, name.second))
		return;
	Wish wish;
	wish.kek_version = kek_version;
	wanted_.emplace(std::move(name), wish);
}

void DekLoader::walk(std::int64_t now)
{
	const uint32 pass = vault_dek_begin_pass();
	const uint32 grace = fuller_than_all_but(16) ? kShortGraceSeconds : kGraceSeconds;
	const uint32 today = static_cast<uint32>(time(nullptr));
	visit_hsm_slots([&](const KeySlot& slot) {
		const bool live = slot.dropped_lsn == 0;
		if (!live && today - slot.dropped_at > grace)
			return;
		const auto note = [&](const std::uint8_t* wrapped, std::uint8_t size) {
			if (size > 0 && !vault_dek_mark(slot.keyring_id, wrapped, size, pass) && live)
				add(slot.keyring_id, slot.keyring_version, wrapped, size, now);
		};
		note(slot.wrapped, slot.wrapped_size);
		note(slot.old_wrapped, slot.old_wrapped_size);
	});
	walked_ = true;
	if (!nearly_full())
		return;
	next_sweep_ = now + kSweepEvery;
	const int swept = vault_dek_sweep(pass, grace);
	if (swept > 0)
		ereport(LOG, (errmsg("pg_seal agent: forgot %d keys of relations that no longer exist", swept)));
}

const KekVersion* DekLoader::kek_of(const KeyringDef& keyring, const Wish& wish)
{
	if (wish.kek_version != 0)
		return RegistryCopy::kek(keyring, wish.kek_version);
	return wish.tried < keyring.keks.size() ? &keyring.keks[keyring.keks.size() - 1 - wish.tried] : nullptr;
}

void DekLoader::start_batch(const KeyringDef& keyring, std::int64_t now)
{
	const KekVersion* kek = nullptr;
	std::size_t limit = 1;
	std::vector<Name> batch;
	std::vector<WrappedBlob> blobs;
	for (auto it = wanted_.lower_bound({keyring.id, {}}); it != wanted_.end() && it->first.first == keyring.id; ++it) {
		const KekVersion* its = kek_of(keyring, it->second);
		if (!its)
			continue; // a version that the registry has not yet
		if (!kek) {
			kek = its;
			limit = it->second.batch_limit;
		}
		std::optional<WrappedBlob> blob = WrappedBlob::from_compact(its->ref.mechanism, as_bytes(it->first.second));
		if (its != kek || it->second.batch_limit != limit || !blob)
			continue;
		batch.push_back(it->first);
		blobs.push_back(std::move(*blob));
		if (batch.size() >= limit)
			break;
	}
	if (!kek)
		return;
	if (batch.empty()) // the first one is not even of the right shape
		return batch_failed(keyring, {wanted_.lower_bound({keyring.id, {}})->first},
		                    {ErrorCode::corrupt, "a wrapped key is of a wrong length"});
	if (!keys_.kek_ready(keyring, *kek, now))
		return;
	Result<AgentRequest> request = registry_.request(AgentOp::unwrap, *kek);
	if (!request)
		return keys_.failed(keyring, kek->provider, request.error(), now);
	request->aad = hsm_dek_aad(keyring.uuid_hex);
	request->blobs = std::move(blobs);
	busy_.insert(keyring.id);
	jobs_.submit(*request, [this, keyring, provider = kek->provider, batch](Result<AgentReply> reply) {
		busy_.erase(keyring.id);
		batch_done(keyring, provider, batch, std::move(reply));
	});
}

void DekLoader::batch_done(const KeyringDef& keyring, const std::string& provider, const std::vector<Name>& batch,
                           Result<AgentReply> reply)
{
	if (!reply && is_provider_failure(reply.error().code))
		return keys_.failed(keyring, provider, reply.error(), monotonic_us());
	keys_.worked(keyring.name, provider);
	if (!reply)
		return batch_failed(keyring, batch, reply.error());
	if (reply->secrets.size() != batch.size())
		return batch_failed(keyring, batch, {ErrorCode::protocol, "the key agent answered with too few keys"});
	for (std::size_t i = 0; i < batch.size(); i++) {
		const ByteView seed = reply->secrets[i].reveal(RevealToken{});
		const ByteView wrapped = as_bytes(batch[i].second);
		if (seed.size() != kDekSeedSize) {
			batch_failed(keyring, {batch[i]}, {ErrorCode::corrupt, "a key is of a wrong length"});
			continue;
		}
		if (vault_put_dek(keyring.id, wrapped.data(), static_cast<uint32>(wrapped.size()), seed.data())) {
			wanted_.erase(batch[i]);
			table_full_ = false;
			continue;
		}
		if (!table_full_)
			ereport(WARNING, (errmsg("pg_seal agent: no room for another key of keyring \"%s\"", keyring.name.c_str()),
			                  errhint("Raise pg_seal.max_hsm_keys and restart the server.")));
		table_full_ = true;
		wanted_.erase(batch[i]); // whoever needs it asks again
	}
}

// The provider works, but not for these: halve until the bad one stands alone, then leave it out.
void DekLoader::batch_failed(const KeyringDef& keyring, const std::vector<Name>& batch, const Error& error)
{
	if (batch.size() > 1) {
		for (const Name& name : batch)
			if (const auto wish = wanted_.find(name); wish != wanted_.end())
				wish->second.batch_limit = (batch.size() + 1) / 2;
		return;
	}
	const auto wish = wanted_.find(batch.front());
	if (wish == wanted_.end())
		return;
	if (wish->second.kek_version == 0 && ++wish->second.tried < keyring.keks.size())
		return;
	ereport(WARNING, (errmsg("pg_seal agent: could not unwrap a relation's key of keyring \"%s\": %s",
	                         keyring.name.c_str(), error.message.c_str())));
	if (hopeless_.size() >= kMaxHopeless)
		hopeless_.clear();
	hopeless_[wish->first] = monotonic_us() + kHopelessFor;
	wanted_.erase(wish);
}

} // namespace seal::pg
