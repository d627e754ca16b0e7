// Brings the vault in line with the registry: keys of new keyrings and new versions are unwrapped, those of dropped keyrings
// forgotten, the pools of 'hsm' keyrings kept filled. A KEK is proven by its check value before it is used.
//
// It keeps no plan: every tick compares what should be with what is and starts what is missing and not already under way.
#pragma once

#include "agent_worker_jobs.hpp"

#include <set>
#include <tuple>

namespace seal::pg {

class KeyLoader {
public:
	KeyLoader(AgentJobs& jobs, const RegistryCopy& registry, Gates& gates)
		: jobs_(jobs), registry_(registry), gates_(gates)
	{}

	void registry_changed(); // forgets what was dropped, drops pools under older KEKs
	void tick(std::int64_t now);
	// May the KEK be used now? Starts proving it when that has not been done since the agent's start.
	bool kek_ready(const KeyringDef& keyring, const KekVersion& kek, std::int64_t now);
	bool gates_open(const KeyringDef& keyring, const KekVersion& kek, std::int64_t now) const;
	void failed(const KeyringDef& keyring, const std::string& provider, const Error& error, std::int64_t now);
	void worked(const std::string& keyring, const std::string& provider);
	bool any_hsm() const noexcept;
	void agent_restarted() { proven_.clear(); }

private:
	enum class Task { prove, unwrap, fill };
	using TaskId = std::tuple<Task, std::uint32_t /* keyring */, std::uint32_t /* version */>;

	void prove(const KeyringDef& keyring, const KekVersion& kek, std::int64_t now);
	void unwrap(const KeyringDef& keyring, const KeyringKey& key, const KekVersion& kek, std::int64_t now);
	void fill_pool(const KeyringDef& keyring, const KekVersion& kek, int count, std::int64_t now);
	bool begin(const TaskId& id) { return under_way_.insert(id).second; }

	AgentJobs& jobs_;
	const RegistryCopy& registry_;
	Gates& gates_;
	std::set<TaskId> under_way_;
	std::set<std::pair<std::uint32_t, std::uint32_t>> proven_; // keyring, KEK version
};

} // namespace seal::pg
