// Loads the DEKs of 'hsm' keyrings into the vault: all that the key files name at start, later those that somebody asks for, in
// batches. When the vault's table fills, the keys of relations that are gone are swept out of it.
#pragma once

#include "agent_worker_keys.hpp"

namespace seal::pg {

class DekLoader {
public:
	DekLoader(AgentJobs& jobs, const RegistryCopy& registry, KeyLoader& keys)
		: jobs_(jobs), registry_(registry), keys_(keys)
	{}

	void tick(std::int64_t now);

private:
	using Name = std::pair<std::uint32_t /* keyring */, std::string /* wrapped bytes */>;
	struct Wish {
		std::uint32_t kek_version = 0; // 0: not known; the keyring's versions are tried, newest first
		std::uint32_t tried = 0;       // of them
		std::size_t batch_limit = 250; // made smaller when a batch failed, to find the bad one
		bool under_way = false;
	};

	void collect_wishes();
	void walk(std::int64_t now);
	void add(std::uint32_t keyring, std::uint32_t kek_version, const std::uint8_t* wrapped, std::size_t size,
	         std::int64_t now);
	void start_batch(const KeyringDef& keyring, std::int64_t now);
	void batch_done(const KeyringDef& keyring, const std::string& provider, const std::vector<Name>& batch,
	                Result<AgentReply> reply);
	void batch_failed(const KeyringDef& keyring, const std::vector<Name>& batch, const Error& error);
	static const KekVersion* kek_of(const KeyringDef& keyring, const Wish& wish);

	AgentJobs& jobs_;
	const RegistryCopy& registry_;
	KeyLoader& keys_;
	std::map<Name, Wish> wanted_;
	std::map<Name, std::int64_t> hopeless_; // did not unwrap; not tried again before that time
	std::set<std::uint32_t> busy_;          // keyrings with a batch under way
	bool walked_ = false, table_full_ = false;
	std::int64_t next_sweep_ = 0;
};

} // namespace seal::pg
