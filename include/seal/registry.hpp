// Registry: what pg_seal/registry in the data directory says: providers, keyrings with their wrapped keys, tablespace
// policies. One JSON document and a SHA-256 line over it, replaced atomically (write aside, fsync, rename).
//
// Secrets in it are wrapped by a KEK inside a provider; nothing in it is in clear. Every change is one RegistryChange,
// logged to WAL whole, applied in the order of `sequence`; applying one twice or an older one is a no-op.
// The document holds unknown members through a load and store (a newer version's fields survive a standby's redo).
#pragma once

#include "seal/key_slot.hpp"
#include "seal/provider.hpp"
#include "seal/result.hpp"

#include <string>
#include <vector>

namespace seal {

inline constexpr char kSealDirectory[] = "pg_seal";
inline constexpr char kRegistryPath[] = "pg_seal/registry"; // relative to the data directory

struct ProviderDef {
	std::string name, kind, config_json;
	std::int64_t created_at = 0, altered_at = 0; // microseconds since 1970
};
struct KekVersion {
	std::uint32_t version = 0;
	std::string provider; // the name of the provider that holds it
	KekRef ref;
	WrappedBlob check;        // a random 32-byte value wrapped by this KEK ...
	std::string check_digest; // ... and its SHA-256 in hex: tells a swapped KEK from a damaged key
	std::int64_t created_at = 0;
	std::string state; // "active", "deactivated" (SP 800-57 words)
};
struct KeyringKey {
	std::uint32_t version = 0, kek_version = 0;
	WrappedBlob wrapped; // 32 bytes, associated data = keyring_key_aad()
	std::int64_t created_at = 0;
	std::string state; // "active", "deactivated"
};
struct KeyringDef {
	std::uint32_t id = 0; // never reused; what a KeySlot names
	std::string uuid_hex; // 16 random bytes: binds wrapped keys to this keyring
	std::string name, protection /* "standard" | "hsm" */, policy_json, created_by;
	std::int64_t created_at = 0;
	std::vector<KekVersion> keks; // ascending version; the last is current
	std::vector<KeyringKey> keys; // ascending version; the last is current
	const std::string& provider() const { return keks.back().provider; }
};
struct TablespacePolicy {
	std::uint32_t tablespace = 0; // OID
	bool sealed = false;          // false: decrypt_tablespace was called; kept for its history
	std::uint32_t keyring_id = 0;
	CipherId cipher = CipherId::none;
	std::int64_t since = 0;
	std::string set_by;
};

struct RegistryChange {
	std::uint64_t sequence = 0;
	std::string section; // "providers", "keyrings", "tablespaces", "counters"
	std::string key;     // name; keyring id; tablespace OID; counter name
	std::string value;   // JSON text of the entry; empty: remove it
	Bytes encode() const;
	static Result<RegistryChange> decode(ByteView bytes);
};

class Registry {
public:
	Registry(); // empty, sequence 0
	Registry(Registry&&) noexcept;
	Registry& operator=(Registry&&) noexcept;
	~Registry();

	static Result<Registry> parse(std::string_view file_text); // corrupt: bad JSON, digest, format
	std::string
	serialise() const; // the whole file; empty: SHA-256 is not to be had (crypto_self_test() has ruled it out)

	std::uint64_t sequence() const;
	std::vector<ProviderDef> providers() const;
	std::vector<KeyringDef> keyrings() const;
	std::vector<TablespacePolicy> tablespaces() const;
	std::uint64_t counter(const std::string& name) const; // 0 if absent; "keyring_id", "operation_id"

	// Entries as changes (sequence = this registry's + 1); nothing is changed until apply().
	RegistryChange put(const ProviderDef&) const;
	RegistryChange put(const KeyringDef&) const;
	RegistryChange put(const TablespacePolicy&) const;
	RegistryChange put_counter(const std::string& name, std::uint64_t value) const;
	RegistryChange remove(const std::string& section, const std::string& key) const;
	Status apply(const RegistryChange&); // ignores one whose sequence is not greater

private:
	struct Document;
	std::unique_ptr<Document> document_;
};

// "pg_seal keyring key v1" || uuid (16 bytes) || version (u32 LE): binds a wrapped keyring key to its place.
Bytes keyring_key_aad(const std::string& keyring_uuid_hex, std::uint32_t version);
Bytes kek_check_aad(const std::string& keyring_uuid_hex, std::uint32_t kek_version);
Bytes hsm_dek_aad(const std::string& keyring_uuid_hex); // DEKs of an 'hsm' keyring: the slot MAC binds the rest

} // namespace seal
