// The functions under the views seal.providers, keyrings, keys, tablespaces and audit_log.
//
// They show the registry as it is published, and never key material: wrapped keys stay in the registry. A provider's definition names
// files and commands: superusers alone see it.
#include "../audit/audit_log.hpp"
#include "../guard.hpp"
#include "../registry/registry_store.hpp"
#include "../vault/vault.hpp"
#include "key_census.hpp"
#include "key_change.hpp"
#include "key_wrapping.hpp"
#include "sql_entry.hpp"
#include "sql_rows.hpp"
#include "sql_text.hpp"

namespace seal::pg {

namespace {

constexpr std::int64_t kMicroseconds = 1000000;

void provider_rows(Rows& rows)
{
	const Registry registry = registry_read();
	const bool all = pg_call([] { return superuser(); });
	const std::vector<KeyringDef> keyrings = registry.keyrings();
	for (const ProviderDef& provider : registry.providers()) {
		std::int32_t users = 0;
		for (const KeyringDef& keyring : keyrings)
			users += keyring.provider() == provider.name;
		rows.text(provider.name).text(provider.kind);
		if (all)
			rows.json(provider.config_json);
		else
			rows.null();
		rows.integer(users).time(provider.created_at).time(provider.altered_at).end();
	}
}

bool loaded(std::uint32_t keyring_id, std::uint32_t version)
{
	uint8 key[kKeyringKeySize];
	const bool found = vault_get_keyring_key(keyring_id, version, key);
	wipe(key, sizeof key);
	return found;
}

void keyring_rows(Rows& rows)
{
	for (const KeyringDef& keyring : registry_read().keyrings()) {
		const KekVersion& kek = keyring.keks.back();
		rows.text(keyring.name).bigint(keyring.id).text(kek.provider).text(kek.ref.label);
		rows.integer(static_cast<std::int32_t>(kek.version)).text(keyring.protection).text(kek.state);
		rows.flag(!keyring.keys.empty() && loaded(keyring.id, keyring.keys.back().version));
		rows.json(keyring.policy_json).text_or_null(keyring.created_by).time(keyring.created_at).end();
	}
}

void kek_row(Rows& rows, const KeyringDef& keyring, const KekVersion& kek)
{
	rows.text("KEK").text(keyring.name).integer(static_cast<std::int32_t>(kek.version)).text("AES-256").integer(256);
	rows.text(kek.state).text("provider " + kek.provider).text(mechanism_name(kek.ref.mechanism));
	rows.text(kek.provider).text(kek.ref.label).text_or_null(kek.ref.id_hex).bigint(1).time(kek.created_at).end();
}

void keyring_key_row(Rows& rows, const KeyringDef& keyring, const KeyringKey& key)
{
	rows.text("keyring key").text(keyring.name).integer(static_cast<std::int32_t>(key.version)).text("AES-256-GCM").integer(256);
	rows.text(key.state).text("KEK version " + std::to_string(key.kek_version)).text(mechanism_name(key.wrapped.mechanism));
	rows.null().null().null().bigint(1).time(key.created_at).end();
}

// A row per group of alike DEKs; `created_at` is the oldest one's.
void dek_row(Rows& rows, const DekGroup& group, const std::vector<KeyringDef>& keyrings)
{
	std::string keyring_name, wrapped_by;
	const bool by_kek = group.mechanism != WrapMechanism::local_aes_gcm;
	for (const KeyringDef& keyring : keyrings)
		if (keyring.id == group.keyring_id)
			keyring_name = keyring.name;
	wrapped_by = (by_kek ? "KEK version " : "keyring key version ") + std::to_string(group.wrapped_by);
	rows.text("DEK").text_or_null(keyring_name).null();
	rows.text(group.cipher == CipherId::aes_128_xts ? "AES-128-XTS" : "AES-256-XTS");
	rows.integer(group.cipher == CipherId::aes_128_xts ? 128 : 256);
	rows.text("active").text(wrapped_by).text(mechanism_name(group.mechanism)).null().null().null();
	rows.bigint(group.count).time(group.oldest_at * kMicroseconds).end();
}

void wal_key_row(Rows& rows, const WalKeyDef& key, std::uint32_t active, const std::vector<KeyringDef>& keyrings)
{
	std::string keyring_name;
	for (const KeyringDef& keyring : keyrings)
		if (keyring.id == key.keyring_id)
			keyring_name = keyring.name;
	rows.text("WAL key").text_or_null(keyring_name).integer(static_cast<std::int32_t>(key.generation));
	rows.text(key.cipher == CipherId::aes_128_xts ? "AES-128-XTS" : "AES-256-XTS");
	rows.integer(key.cipher == CipherId::aes_128_xts ? 128 : 256);
	rows.text(key.generation == active ? "active" : key.retired_at != 0 ? "deactivated" : "pre-activation");
	rows.text("keyring key version " + std::to_string(key.keyring_version)).text(mechanism_name(WrapMechanism::local_aes_gcm));
	rows.null().null().null().bigint(1).time(key.created_at).end();
}

void key_rows(Rows& rows)
{
	const Registry registry = registry_read();
	const std::vector<KeyringDef> keyrings = registry.keyrings();
	for (const KeyringDef& keyring : keyrings) {
		for (const KekVersion& kek : keyring.keks)
			kek_row(rows, keyring, kek);
		for (const KeyringKey& key : keyring.keys)
			keyring_key_row(rows, keyring, key);
	}
	for (const WalKeyDef& key : registry.wal_keys().keys)
		wal_key_row(rows, key, registry.wal_keys().active, keyrings);
	DekGroup* groups;
	const int count = pg_call([&] { return count_deks(&groups); });
	for (int i = 0; i < count; i++)
		dek_row(rows, groups[i], keyrings);
}

void policy_rows(Rows& rows)
{
	const Registry registry = registry_read();
	const std::vector<KeyringDef> keyrings = registry.keyrings();
	for (const TablespacePolicy& policy : registry.tablespaces()) {
		std::string keyring_name;
		for (const KeyringDef& keyring : keyrings)
			if (keyring.id == policy.keyring_id)
				keyring_name = keyring.name;
		rows.oid(policy.tablespace).flag(policy.sealed).text_or_null(keyring_name).text(cipher_name(policy.cipher));
		rows.time(policy.since).text_or_null(policy.set_by).end();
	}
}

void audit_rows(Rows& rows)
{
	audit_read([&](const AuditRecord& record, const std::string& segment, bool readable) {
		if (!readable) {
			rows.null().null().text("unreadable").null().null().null().null().null().null().text("unreadable");
			rows.json(record.detail).text(segment).end();
			return;
		}
		rows.bigint(static_cast<std::int64_t>(record.seq)).time(record.at).text(record.event);
		rows.name_or_null(record.actor).name_or_null(record.role).text_or_null(record.client);
		rows.text_or_null(record.application).text_or_null(record.database).text_or_null(record.object);
		rows.text(record.result).json(record.detail).text(segment).end();
	});
}

Datum fill(FunctionCallInfo fcinfo, void (*write)(Rows&))
{
	return sql_entry([&] {
		Rows rows(fcinfo);
		write(rows);
		return Datum{0};
	});
}

} // namespace

extern "C" {
PG_FUNCTION_INFO_V1(pg_seal_list_providers);
PG_FUNCTION_INFO_V1(pg_seal_list_keyrings);
PG_FUNCTION_INFO_V1(pg_seal_list_keys);
PG_FUNCTION_INFO_V1(pg_seal_list_policies);
PG_FUNCTION_INFO_V1(pg_seal_read_audit_log);

PGDLLEXPORT Datum pg_seal_list_providers(PG_FUNCTION_ARGS) { return fill(fcinfo, provider_rows); }
PGDLLEXPORT Datum pg_seal_list_keyrings(PG_FUNCTION_ARGS) { return fill(fcinfo, keyring_rows); }
PGDLLEXPORT Datum pg_seal_list_keys(PG_FUNCTION_ARGS) { return fill(fcinfo, key_rows); }
PGDLLEXPORT Datum pg_seal_list_policies(PG_FUNCTION_ARGS) { return fill(fcinfo, policy_rows); }
PGDLLEXPORT Datum pg_seal_read_audit_log(PG_FUNCTION_ARGS) { return fill(fcinfo, audit_rows); }
}

} // namespace seal::pg
