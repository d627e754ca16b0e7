#include "agent_worker_jobs.hpp"

#include "../agent_client/agent_slots.hpp"
#include "../guard.hpp"
#include "../guc.hpp"
#include "../registry/registry_store.hpp"

#include <algorithm>

namespace seal::pg {

namespace {
constexpr std::int64_t kSecond = 1000000;
constexpr std::int64_t kFirstDelay = kSecond, kLongestDelay = 60 * kSecond;
} // namespace

bool RegistryCopy::refresh()
{
	const std::uint64_t published = registry_sequence();
	if (read_ && published == sequence_)
		return false;
	try {
		const Registry registry = registry_read();
		keyrings_ = registry.keyrings();
		providers_ = registry.providers();
		sequence_ = published;
		read_ = true;
		complained_ = false;
		return true;
	} catch (const SealError& e) { // tried again at the next turn
		agent_note_error(e.error.message.c_str());
		if (!complained_)
			ereport(WARNING, (errmsg("pg_seal agent: %s", e.error.message.c_str())));
		complained_ = true;
		return false;
	}
}

const KeyringDef* RegistryCopy::keyring(std::uint32_t id) const noexcept
{
	const auto found =
		std::find_if(keyrings_.begin(), keyrings_.end(), [id](const KeyringDef& k) { return k.id == id; });
	return found == keyrings_.end() ? nullptr : &*found;
}

const KekVersion* RegistryCopy::kek(const KeyringDef& keyring, std::uint32_t version) noexcept
{
	for (const KekVersion& kek : keyring.keks)
		if (kek.version == version)
			return &kek;
	return nullptr;
}

Result<AgentRequest> RegistryCopy::request(AgentOp op, const KekVersion& kek) const
{
	for (const ProviderDef& provider : providers_) {
		if (provider.name != kek.provider)
			continue;
		std::string overrides;
		try {
			overrides = provider_overrides_text();
		} catch (const SealError& e) {
			return e.error;
		}
		Result<std::string> config = merge_overrides(provider.name, provider.config_json, overrides);
		if (!config)
			return config.error();
		AgentRequest request;
		request.op = op;
		request.provider_name = provider.name;
		request.provider_kind = provider.kind;
		request.provider_config = std::move(config.value());
		request.timeout_ms = static_cast<std::uint32_t>(guc_provider_timeout_ms);
		request.kek = kek.ref;
		return request;
	}
	return Error{ErrorCode::not_found, "provider \"" + kek.provider + "\" does not exist",
	             "Add it with seal.add_provider()."};
}

bool Gates::open(const std::string& name, std::int64_t now) const
{
	const auto found = closed_.find(name);
	return found == closed_.end() || now >= found->second.next_try;
}

void Gates::failed(const std::string& name, const Error& error, std::int64_t now)
{
	const auto [gate, fresh] = closed_.try_emplace(name, Gate{0, kFirstDelay, {}});
	gate->second.next_try = now + gate->second.delay;
	gate->second.delay = std::min(2 * gate->second.delay, kLongestDelay);
	agent_note_error(error.message.c_str());
	if (!fresh && gate->second.message == error.message)
		return;
	gate->second.message = error.message;
	ereport(WARNING, (errmsg("pg_seal agent: %s cannot be used: %s", name.c_str(), error.message.c_str()),
	                  error.hint.empty() ? 0 : errhint("%s", error.hint.c_str())));
}

void Gates::worked(const std::string& name)
{
	if (closed_.erase(name) > 0)
		ereport(LOG, (errmsg("pg_seal agent: %s works again", name.c_str())));
}

void Gates::retry_now()
{
	for (auto& [name, gate] : closed_) {
		gate.next_try = 0;
		gate.delay = kFirstDelay;
	}
}

std::int64_t Gates::next_try(std::int64_t now) const
{
	std::int64_t first = INT64_MAX;
	for (const auto& [name, gate] : closed_)
		if (gate.next_try > now)
			first = std::min(first, gate.next_try);
	return first;
}

bool is_provider_failure(ErrorCode code) noexcept
{
	switch (code) {
	case ErrorCode::provider_unreachable:
	case ErrorCode::timeout:
	case ErrorCode::pin_incorrect:
	case ErrorCode::io_error:
	case ErrorCode::protocol: return true;
	default: return false;
	}
}

std::string gate_of_provider(const std::string& provider) { return "provider \"" + provider + "\""; }
std::string gate_of_keyring(const std::string& keyring) { return "keyring \"" + keyring + "\""; }

} // namespace seal::pg
