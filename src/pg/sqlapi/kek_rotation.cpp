// seal.rotate_kek: a new KEK version of the same label inside the provider; every keyring key version wrapped anew by it.
//
// One registry change puts the new KEK version and all rewrapped keys in place together: before it the keyring is as it was (an
// unused KEK may remain in the provider), after it nothing needs the old KEK but DEKs of an 'hsm' keyring, whose slots name the KEK
// version that wrapped them, and backups. So the old version stays, as deactivated. No data page and no key file is touched.
#include "../audit/audit_event.hpp"
#include "key_change.hpp"
#include "key_wrapping.hpp"
#include "sql_args.hpp"
#include "sql_entry.hpp"
#include "sql_text.hpp"

namespace seal::pg {

namespace {

const KekVersion& kek_of(const KeyringDef& keyring, std::uint32_t version)
{
	for (const KekVersion& kek : keyring.keks)
		if (kek.version == version)
			return kek;
	raise(Error(ErrorCode::corrupt, "keyring \"" + keyring.name + "\" lacks KEK version " + std::to_string(version),
	            "Restore pg_seal/registry from a backup."));
}

// The rotated keyring; nothing is changed yet but the provider, which holds one more KEK.
KeyringDef rotated(const Registry& now, KeyringDef keyring, AuditDetail& detail)
{
	const ProviderDef provider = need_provider(now, keyring.provider());
	const std::uint32_t version = keyring.keks.back().version + 1;

	// The old KEK first: without it nothing can be rewrapped, and then no new key shall be left behind.
	std::vector<Secret> keys;
	for (const KeyringKey& key : keyring.keys) {
		const KekVersion& kek = kek_of(keyring, key.kek_version);
		keys.push_back(unwrap_key(need_provider(now, kek.provider), kek.ref, key.wrapped,
		                          keyring_key_aad(keyring.uuid_hex, key.version)));
	}
	const KekVersion next =
		make_kek_version(provider, KekSource::created, keyring.keks.back().ref.label, keyring.uuid_hex, version);
	detail.text("provider", next.provider).text("kek", next.ref.label).text("kek_id", next.ref.id_hex);
	detail.number("kek_version", version).text("mechanism", mechanism_name(next.ref.mechanism));

	for (std::size_t i = 0; i < keys.size(); i++) {
		KeyringKey& key = keyring.keys[i];
		key.wrapped = wrap_checked(provider, next.ref, keys[i], keyring_key_aad(keyring.uuid_hex, key.version));
		key.kek_version = version;
	}
	for (KekVersion& kek : keyring.keks)
		kek.state = "deactivated";
	keyring.keks.push_back(next);
	return keyring;
}

std::int64_t rotate_kek(const std::string& name)
{
	AuditEvent event("kek.rotate", name);
	KeyringDef after;
	std::int64_t rewrapped = 0;
	audited(event, [&] {
		const KeyChange change("seal.rotate_kek()");
		const Registry now = registry_read();
		const KeyringDef before = need_keyring(now, name);
		rewrapped = static_cast<std::int64_t>(before.keys.size());
		after = rotated(now, before, event.detail);
		event.detail.number("keys_rewrapped", rewrapped);
		change_registry([&](const Registry& newest) {
			const KeyringDef current = need_keyring(newest, name);
			if (current.id != before.id || current.keks.size() != before.keks.size() || current.keys.size() != before.keys.size())
				fail(ERRCODE_OBJECT_IN_USE, "keyring \"" + name + "\" was changed while its KEK was rotated", "Repeat the call.");
			after.policy_json = current.policy_json;
			return newest.put(after);
		});
	});
	if (!wait_for_keyring_key(after.id, after.keys.back().version))
		notify(WARNING, "the KEK of keyring \"" + name + "\" was rotated, but its newest key is not loaded yet",
		       "It can be used as soon as the key agent has loaded it; seal.health tells.");
	return rewrapped;
}

} // namespace

extern "C" {
PG_FUNCTION_INFO_V1(pg_seal_rotate_kek);

PGDLLEXPORT Datum pg_seal_rotate_kek(PG_FUNCTION_ARGS)
{
	return sql_entry([&] { return Int64GetDatum(rotate_kek(name_arg(fcinfo, 0, "keyring"))); });
}
}

} // namespace seal::pg
