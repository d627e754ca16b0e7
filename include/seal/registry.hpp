// Registry: what pg_seal/registry in the data directory says: providers, keyrings with their wrapped keys, tablespace
// policies, operations on what lies in tablespaces. One JSON document and a SHA-256 line over it, replaced atomically (write aside, fsync, rename).
//
// Secrets in it are wrapped by a KEK inside a provider; nothing in it is in clear. Every change is one RegistryChange,
// logged to WAL whole, applied in the order of `sequence`; applying one twice or an older one is a no-op.
// The document holds unknown members through a load and store (a newer version's fields survive a standby's redo).
#pragma once

#include "seal/key_slot.hpp"
#include "seal/provider.hpp"
#include "seal/result.hpp"

#include <optional>
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
	std::uint64_t operation = 0; // the one that converts what was there: registered after the policy, by whoever comes first
};

// A job over the relations that a tablespace holds. It outlives sessions, restarts and fail-over: whoever is primary goes on with it.
struct OperationDef {
	std::uint64_t id = 0; // only grows
	std::string kind;     // "encrypt", "decrypt", "rotate"
	std::uint32_t tablespace = 0; // OID
	std::string target;           // the tablespace's name when it began
	std::uint32_t keyring_id = 0;
	CipherId cipher = CipherId::none;
	std::string state; // "pending", "running", "paused"; finished: "done", "failed", "cancelled"
	std::string requested_by;
	std::int64_t created_at = 0, started_at = 0, finished_at = 0, updated_at = 0; // microseconds since 1970; 0: not yet
	std::uint64_t pages_done = 0, pages_total = 0, relations_done = 0, failed_relations = 0;
	std::uint64_t wal_bytes = 0, wal_estimate = 0;
	std::uint32_t starts = 0; // begun since it last made headway: what keeps crashing the server is begun ever more slowly
	bool leftover = false;    // cancelled, and relations that it began may still be in transition
	std::string detail;       // why it failed, what it waits for, who paused it
	bool finished() const { return state == "done" || state == "failed" || state == "cancelled"; }
};
inline constexpr std::size_t kFinishedOperationsKept = 200;

// A generation of the WAL key (seal/wal_key.hpp).
struct WalKeyDef {
	std::uint32_t generation = 0; // only grows, from 1
	std::uint32_t keyring_id = 0, keyring_version = 0;
	CipherId cipher = CipherId::none;
	Bytes wrapped;
	std::int64_t created_at = 0, began_at = 0, retired_at = 0; // microseconds since 1970; 0: not yet
	std::uint64_t first_lsn = 0;                               // no page before it is sealed with this key; 0: not in use yet
	std::uint32_t first_timeline = 0;
	std::uint64_t last_lsn = 0; // the primary seals no segment that begins at or after it with this key; 0: still in use
};
// Everything there is about sealed WAL: one entry, so that every step is one change.
struct WalKeysDef {
	std::uint32_t active = 0;    // generation that new segments get; 0: WAL is written in clear
	std::vector<WalKeyDef> keys; // ascending generation
	const WalKeyDef* find(std::uint32_t generation) const noexcept
	{
		for (const WalKeyDef& key : keys)
			if (key.generation == generation)
				return &key;
		return nullptr;
	}
};

struct RegistryChange {
	std::uint64_t sequence = 0;
	std::string section; // "providers", "keyrings", "tablespaces", "operations", "wal", "counters"
	std::string key;     // name; keyring id; tablespace OID; operation id; "keys"; counter name
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
	std::vector<OperationDef> operations() const; // ascending
	std::optional<OperationDef> operation(std::uint64_t id) const;
	WalKeysDef wal_keys() const;
	std::uint64_t counter(const std::string& name) const; // 0 if absent; "keyring_id", "operation_id"

	// Entries as changes (sequence = this registry's + 1); nothing is changed until apply().
	RegistryChange put(const ProviderDef&) const;
	RegistryChange put(const KeyringDef&) const;
	RegistryChange put(const TablespacePolicy&) const;
	RegistryChange put(const OperationDef&) const; // applied, it also removes all but the newest kFinishedOperationsKept finished ones
	RegistryChange put(const WalKeysDef&) const;
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
