// What the parts of the agent worker share: jobs of its own for the agent, the registry as last read, and the gates that keep it
// from knocking at a provider that is down.
#pragma once

#include "../pg.hpp"

#include "seal/agent_protocol.hpp"

#include <functional>
#include <map>
#include <string>

namespace seal::pg {

// Called once: with the agent's reply, the provider's error, or why there was no reply. Must not submit; the next tick does.
using JobDone = std::function<void(Result<AgentReply>)>;

class AgentJobs {
public:
	virtual void submit(const AgentRequest& request, JobDone done) = 0;

protected:
	~AgentJobs() = default;
};

// The registry, read again when its published sequence moved.
class RegistryCopy {
public:
	bool refresh(); // true: changed. A file that cannot be read keeps the old copy and is logged
	const std::vector<KeyringDef>& keyrings() const noexcept { return keyrings_; }
	const KeyringDef* keyring(std::uint32_t id) const noexcept;
	static const KekVersion* kek(const KeyringDef& keyring, std::uint32_t version) noexcept;
	// A request to the provider of `kek`, overrides merged in.
	Result<AgentRequest> request(AgentOp op, const KekVersion& kek) const;

private:
	bool read_ = false, complained_ = false;
	std::uint64_t sequence_ = 0;
	std::vector<KeyringDef> keyrings_;
	std::vector<ProviderDef> providers_;
};

// Exponential back-off per name ("provider ...", "keyring ..."), 1 s to 60 s, logged once when it closes and once when it opens.
class Gates {
public:
	bool open(const std::string& name, std::int64_t now) const;
	void failed(const std::string& name, const Error& error, std::int64_t now);
	void worked(const std::string& name);
	void retry_now();                              // the registry changed: the cause may be gone
	std::int64_t next_try(std::int64_t now) const; // the first one after `now`; INT64_MAX: none

private:
	struct Gate {
		std::int64_t next_try, delay;
		std::string message;
	};
	std::map<std::string, Gate> closed_;
};

// A failure of the provider stops all its keyrings, one of a key only its own.
bool is_provider_failure(ErrorCode code) noexcept;
std::string gate_of_provider(const std::string& provider);
std::string gate_of_keyring(const std::string& keyring);

} // namespace seal::pg
