// seal.create_keyring, drop_keyring, set_policy.
//
// Order of create_keyring: the KEK in the provider, then the keyring key (made here, wrapped by the KEK, unwrapped again for proof),
// then one registry change, the audit record, and last the wait until the agent has put the key into the vault, so that the keyring
// can be used when the call returns. A failure before the registry change leaves at most an unused KEK in the provider: the audit
// record names it.
//
// A keyring with protection 'hsm' wraps DEKs by its KEK; its keyring key only authenticates key slots (seal/key_slot.hpp).
#include "../audit/audit_event.hpp"
#include "../keymap/keymap.hpp"
#include "key_change.hpp"
#include "key_wrapping.hpp"
#include "sql_args.hpp"
#include "sql_entry.hpp"
#include "sql_text.hpp"

extern "C" {
#include "commands/tablespace.h"
}

namespace seal::pg {

namespace {

struct CreateKeyring {
	std::string name, provider, kek, protection, policy;
	bool create_kek;
};

void check_free(const Registry& now, const std::string& name)
{
	if (find_keyring(now, name))
		raise(Error(ErrorCode::already_exists, "keyring \"" + name + "\" already exists",
		            "seal.keyrings lists the keyrings; seal.rotate_kek() gives one a new KEK."));
}

std::uint32_t next_keyring_id()
{
	std::uint64_t id = 0;
	change_registry([&](const Registry& now) {
		id = now.counter("keyring_id") + 1;
		return now.put_counter("keyring_id", id);
	});
	return static_cast<std::uint32_t>(id);
}

void note_kek(AuditDetail& detail, const KekVersion& kek)
{
	detail.text("provider", kek.provider).text("kek", kek.ref.label).text("kek_id", kek.ref.id_hex);
	detail.number("kek_version", kek.version).text("mechanism", mechanism_name(kek.ref.mechanism));
}

KeyringDef make_keyring(const CreateKeyring& request, AuditDetail& detail)
{
	const ProviderDef provider = need_provider(registry_read(), request.provider);
	KeyringDef keyring;
	keyring.uuid_hex = new_uuid_hex();
	keyring.name = request.name;
	keyring.protection = request.protection;
	keyring.policy_json = request.policy;
	keyring.created_by = current_role();
	keyring.created_at = now_microseconds();
	keyring.keks.push_back(make_kek_version(provider, request.create_kek ? KekSource::created : KekSource::adopted, request.kek,
	                                        keyring.uuid_hex, 1));
	note_kek(detail, keyring.keks.back());

	const Secret key = new_keyring_key();
	KeyringKey entry;
	entry.version = 1;
	entry.kek_version = 1;
	entry.wrapped = wrap_checked(provider, keyring.keks.back().ref, key, keyring_key_aad(keyring.uuid_hex, 1));
	entry.created_at = keyring.created_at;
	entry.state = "active";
	keyring.keys.push_back(std::move(entry));
	keyring.id = next_keyring_id();
	detail.number("keyring_id", keyring.id);
	return keyring;
}

void create_keyring(const CreateKeyring& request)
{
	AuditEvent event("keyring.create", request.name);
	KeyringDef keyring;
	audited(event, [&] {
		event.detail.text("provider", request.provider).text("protection", request.protection);
		event.detail.flag("create_kek", request.create_kek).json("policy", request.policy);
		if (request.protection != "standard" && request.protection != "hsm")
			raise(Error(ErrorCode::invalid_argument, "unknown protection \"" + request.protection + "\"",
			            "The protection of a keyring is 'standard' or 'hsm'."));
		const KeyChange change("seal.create_keyring()");
		check_free(registry_read(), request.name);
		keyring = make_keyring(request, event.detail);
		change_registry([&](const Registry& now) {
			check_free(now, request.name);
			need_provider(now, request.provider);
			return now.put(keyring);
		});
	});
	if (!wait_for_keyring_key(keyring.id, keyring.keys.back().version))
		notify(WARNING, "keyring \"" + request.name + "\" was created, but its key is not loaded yet",
		       "It can be used as soon as the key agent has loaded it; seal.health tells.");
}

std::string tablespace_text(Oid tablespace)
{
	const char* name = pg_call([&] { return static_cast<const char*>(get_tablespace_name(tablespace)); });
	return name ? "\"" + utf8_from_server(name) + "\"" : std::to_string(tablespace);
}

// Under the registry lock (nobody gives a tablespace this keyring meanwhile) and the key files' (nobody makes a key under it).
void refuse_used(const Registry& now, const KeyringDef& keyring)
{
	for (const TablespacePolicy& policy : now.tablespaces())
		if (policy.sealed && policy.keyring_id == keyring.id)
			fail(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
			     "keyring \"" + keyring.name + "\" is in use by the policy of tablespace " + tablespace_text(policy.tablespace),
			     "Call seal.decrypt_tablespace() or give the tablespace another keyring; seal.tablespaces lists them.");
	for (const WalKeyDef& key : now.wal_keys().keys)
		if (key.keyring_id == keyring.id)
			fail(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
			     "keyring \"" + keyring.name + "\" holds generation " + std::to_string(key.generation) + " of the WAL key",
			     "WAL, archives and backups may need it. seal.wal_keys tells until when; pg_seal.wal_key_retention limits it.");
	const std::uint32_t id = keyring.id;
	if (pg_call([&] { return keymap_any_slot_of_keyring(id); }))
		fail(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST, "keyring \"" + keyring.name + "\" holds the keys of relations",
		     "Move or drop the relations that it protects; seal.relations lists those of a database. Keys of dropped relations "
		     "are kept for pg_seal.tombstone_retention.");
}

void drop_keyring(const std::string& name)
{
	AuditEvent event("keyring.drop", name);
	std::string left;
	audited(event, [&] {
		const KeyChange change("seal.drop_keyring()");
		const std::uint32_t id = need_keyring(registry_read(), name).id;
		pg_call([&] { keymap_purge_keyring(id); });
		const ExclusiveLwLock registry_lock(Lock::registry);
		const ExclusiveLwLock key_files_lock(Lock::keymap_writer); // until the keyring is gone: keymap_create looks again under it
		change_registry_locked([&](const Registry& now) {
			const KeyringDef keyring = need_keyring(now, name);
			refuse_used(now, keyring);
			event.detail.number("keyring_id", keyring.id);
			note_kek(event.detail, keyring.keks.back());
			for (const KekVersion& kek : keyring.keks)
				left += (left.empty() ? "" : ", ") + ("\"" + kek.ref.label + "\"") +
				        (kek.ref.id_hex.empty() ? "" : " (id " + kek.ref.id_hex + ")") + " in provider \"" + kek.provider + "\"";
			return now.remove("keyrings", std::to_string(keyring.id));
		});
	});
	agent_wake();
	notify(NOTICE, "keyring \"" + name + "\" was dropped; its KEK stays in the provider: " + left,
	       "Backups of sealed relations need it. Destroying it there makes them unreadable for good.");
}

void set_policy(const std::string& name, const std::string& policy)
{
	AuditEvent event("policy.set", name);
	audited(event, [&] {
		event.detail.json("policy", policy);
		const KeyChange change("seal.set_policy()");
		change_registry([&](const Registry& now) {
			KeyringDef keyring = need_keyring(now, name);
			event.detail.json("former_policy", keyring.policy_json);
			keyring.policy_json = policy;
			return now.put(keyring);
		});
	});
}

} // namespace

extern "C" {
PG_FUNCTION_INFO_V1(pg_seal_create_keyring);
PG_FUNCTION_INFO_V1(pg_seal_drop_keyring);
PG_FUNCTION_INFO_V1(pg_seal_set_policy);

PGDLLEXPORT Datum pg_seal_create_keyring(PG_FUNCTION_ARGS)
{
	return sql_entry([&] {
		CreateKeyring request;
		request.name = name_arg(fcinfo, 0, "name");
		request.provider = text_arg(fcinfo, 1, "provider");
		request.kek = PG_ARGISNULL(2) ? request.name : name_arg(fcinfo, 2, "kek");
		request.create_kek = bool_arg(fcinfo, 3, "create_kek");
		request.protection = text_arg(fcinfo, 4, "protection");
		request.policy = jsonb_object_arg(fcinfo, 5, "policy");
		create_keyring(request);
		return Datum{0};
	});
}

PGDLLEXPORT Datum pg_seal_drop_keyring(PG_FUNCTION_ARGS)
{
	return sql_entry([&] {
		drop_keyring(name_arg(fcinfo, 0, "name"));
		return Datum{0};
	});
}

PGDLLEXPORT Datum pg_seal_set_policy(PG_FUNCTION_ARGS)
{
	return sql_entry([&] {
		const std::string name = name_arg(fcinfo, 0, "keyring");
		set_policy(name, jsonb_object_arg(fcinfo, 1, "policy"));
		return Datum{0};
	});
}
}

} // namespace seal::pg
