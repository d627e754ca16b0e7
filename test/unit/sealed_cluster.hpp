// A data directory as far as `pgseal exec` and `scan` look at it: a registry with a keyring on a SoftHSM token and WAL keys of some generations.
#pragma once

#include "softhsm_token.hpp"

#include "seal/agent_protocol.hpp"
#include "seal/crypto.hpp"
#include "seal/wal_key.hpp"
#include "seal/wal_segment_io.hpp"

#include <map>
#include <memory>

namespace seal::test {

class SealedCluster final : public WalKeys {
public:
	static constexpr std::uint32_t kSegment = 1u << 20;

	static constexpr std::uint64_t kSystem =
		7301112223334445556; // the system identifier of pg_control and of plain_segment()

	explicit SealedCluster(std::uint32_t generations, std::uint64_t system = kSystem);
	void store(std::uint32_t active) const; // the registry with all keys, and this one in use

	void put_provider(const std::string& config_json) const; // in place of the token's own settings

	const std::string& path() const { return data_.path(); }
	const TemporaryDirectory& directory() const { return data_; }
	const SoftHsm& hsm() const { return hsm_; }
	std::string overrides() const { return "{\"hsm\":" + hsm_.config("seal") + "}"; }
	const Registry& registry() const { return registry_; }
	// Every WAL key, to look for where none may be.
	const std::map<std::uint32_t, std::string>& keys() const { return keys_; }

	// Some WAL in clear: pages with headers, contents up to `pages`, then empty pages. The name is that of segment `number` of timeline 1.
	static std::string segment_name(std::uint32_t number);
	static std::string plain_segment(std::uint32_t number, unsigned pages = 100);
	std::string sealed(const std::string& plain, std::uint32_t generation); // as the server would write it

	WalCipher* by_mark(std::uint16_t mark, std::uint32_t* generation) noexcept override;
	std::uint32_t newest() noexcept override { return writing_; }

private:
	void make_keyring();

	SoftHsm hsm_;
	TemporaryDirectory data_;
	mutable Registry registry_;
	mutable WalKeysDef wal_;
	KeyringDef keyring_;
	Secret keyring_key_;
	std::map<std::uint32_t, std::string> keys_;
	std::map<std::uint32_t, std::unique_ptr<WalCipher>> ciphers_;
	std::uint32_t writing_ = 0;
};

} // namespace seal::test
