// seal.encrypt_tablespace and decrypt_tablespace: the policy for what is created in, or moved into, a tablespace from now on.
//
// What lies there already stays as it is, and the caller is told how much that is in the current database and how to move it. The
// call returns the number of the operation; nothing goes on after it, so waiting takes no time.
#include "../audit/audit_event.hpp"
#include "../guc.hpp"
#include "key_change.hpp"
#include "key_wrapping.hpp"
#include "relation_storage.hpp"
#include "sql_args.hpp"
#include "sql_entry.hpp"
#include "sql_text.hpp"

extern "C" {
#include "access/xact.h"
#include "catalog/pg_tablespace_d.h"
#include "commands/dbcommands.h"
#include "commands/tablespace.h"
}

namespace seal::pg {

namespace {

// An operation that takes effect at once must not look as if ROLLBACK could undo it, nor wait for locks that its own
// transaction holds.
void refuse_waiting_in_block(bool wait, const char* function)
{
	if (wait && pg_call([] { return IsTransactionBlock() || IsSubTransaction(); }))
		fail(ERRCODE_ACTIVE_SQL_TRANSACTION, std::string(function) + " with wait => true cannot run inside a transaction block",
		     "Run it by itself, or give wait => false. The policy changes at once and is not undone by ROLLBACK either way.");
}

Oid tablespace_of(const char* name)
{
	const Oid tablespace = pg_call([&] { return get_tablespace_oid(name, false); });
	if (tablespace == GLOBALTABLESPACE_OID)
		fail(ERRCODE_FEATURE_NOT_SUPPORTED, "tablespace \"pg_global\" cannot be sealed by this version",
		     "It holds the shared catalogs, which are never created anew: sealing them needs the conversion of existing relations.");
	return tablespace;
}

CipherId chosen_cipher()
{
	return pg_strcasecmp(guc_default_cipher, "aes-128-xts") == 0 ? CipherId::aes_128_xts : CipherId::aes_256_xts;
}

std::optional<TablespacePolicy> find_policy(const Registry& registry, Oid tablespace)
{
	for (TablespacePolicy& policy : registry.tablespaces())
		if (policy.tablespace == tablespace)
			return std::move(policy);
	return std::nullopt;
}

struct Population {
	int64 with_key, without_key, catalogs_without_key;
};

// Other sessions' temporary relations end with their session: not counted.
void count_relations(Oid tablespace, Population* out)
{
	RelationStorage* relations;
	const int count = relations_in_tablespace(tablespace, &relations);
	memset(out, 0, sizeof *out);
	for (int i = 0; i < count; i++) {
		KeySlot slot;
		if (relations[i].other_session)
			continue;
		if (relation_has_key(relations[i], &slot))
			out->with_key++;
		else if (relations[i].catalog)
			out->catalogs_without_key++;
		else
			out->without_key++;
		CHECK_FOR_INTERRUPTS();
	}
	pfree(relations);
}

std::string here()
{
	const char* database = pg_call([] { return static_cast<const char*>(get_database_name(MyDatabaseId)); });
	return " of database \"" + (database ? utf8_from_server(database) : "?") + "\" in tablespace \"";
}

void tell_what_stays_plain(Oid tablespace, const std::string& name)
{
	Population found;
	pg_call([&] { count_relations(tablespace, &found); });
	if (found.without_key > 0)
		notify(NOTICE, std::to_string(found.without_key) + " existing relations" + here() + name + "\" stay plain",
		       "Rewrite them in place with VACUUM FULL or REINDEX, or move them with ALTER TABLE ... SET TABLESPACE; "
		       "seal.relations lists them. Other databases that use the tablespace are not counted.");
	if (found.catalogs_without_key > 0)
		notify(NOTICE, std::to_string(found.catalogs_without_key) + " system catalog relations" + here() + name + "\" stay plain",
		       "A database created in a sealed tablespace has sealed catalogs.");
}

void tell_what_stays_sealed(Oid tablespace, const std::string& name)
{
	Population found;
	pg_call([&] { count_relations(tablespace, &found); });
	if (found.with_key > 0)
		notify(NOTICE, std::to_string(found.with_key) + " existing relations" + here() + name + "\" stay sealed",
		       "Rewrite them in place with VACUUM FULL or REINDEX, or move them with ALTER TABLE ... SET TABLESPACE; "
		       "seal.relations lists them. Other databases that use the tablespace are not counted.");
}

bool first_policy(const Registry& registry, std::uint32_t keyring_id)
{
	for (const TablespacePolicy& policy : registry.tablespaces())
		if (policy.sealed && policy.keyring_id == keyring_id)
			return false;
	return true;
}

std::uint64_t encrypt_tablespace(const char* catalog_name, const std::string& keyring_name, bool wait)
{
	const std::string name = utf8_from_server(catalog_name);
	AuditEvent event("tablespace.encrypt", name);
	Oid tablespace = InvalidOid;
	std::uint64_t operation = 0;
	std::string warn_of_loss;
	audited(event, [&] {
		event.detail.text("keyring", keyring_name);
		refuse_waiting_in_block(wait, "seal.encrypt_tablespace");
		tablespace = tablespace_of(catalog_name);
		const KeyChange change("seal.encrypt_tablespace()");
		need_keyring(registry_read(), keyring_name);
		operation = next_operation_id();
		TablespacePolicy policy;
		policy.tablespace = tablespace;
		policy.sealed = true;
		policy.cipher = chosen_cipher();
		policy.since = now_microseconds();
		policy.set_by = current_role();
		event.detail.number("operation", static_cast<std::int64_t>(operation)).number("tablespace_oid", tablespace);
		event.detail.text("cipher", cipher_name(policy.cipher));
		change_registry([&](const Registry& now) {
			const KeyringDef keyring = need_keyring(now, keyring_name);
			policy.keyring_id = keyring.id;
			if (first_policy(now, keyring.id))
				warn_of_loss = keyring.provider();
			return now.put(policy);
		});
	});
	if (!warn_of_loss.empty())
		notify(NOTICE, "without the KEK of keyring \"" + keyring_name + "\" in provider \"" + warn_of_loss +
		                   "\" nothing that it seals can be read, backups included",
		       "Make sure that the provider's keys are backed up by its own means.");
	tell_what_stays_plain(tablespace, name);
	return operation;
}

std::uint64_t decrypt_tablespace(const char* catalog_name, bool wait)
{
	const std::string name = utf8_from_server(catalog_name);
	AuditEvent event("tablespace.decrypt", name);
	Oid tablespace = InvalidOid;
	std::uint64_t operation = 0;
	audited(event, [&] {
		refuse_waiting_in_block(wait, "seal.decrypt_tablespace");
		tablespace = tablespace_of(catalog_name);
		const KeyChange change("seal.decrypt_tablespace()");
		const auto need_policy = [&](const Registry& now) {
			const std::optional<TablespacePolicy> policy = find_policy(now, tablespace);
			if (!policy || !policy->sealed)
				fail(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "tablespace \"" + name + "\" is not sealed",
				     "seal.tablespaces lists the policies.");
			return *policy;
		};
		need_policy(registry_read());
		operation = next_operation_id();
		event.detail.number("operation", static_cast<std::int64_t>(operation)).number("tablespace_oid", tablespace);
		change_registry([&](const Registry& now) {
			TablespacePolicy policy = need_policy(now);
			policy.sealed = false;
			policy.since = now_microseconds();
			policy.set_by = current_role();
			return now.put(policy);
		});
	});
	tell_what_stays_sealed(tablespace, name);
	return operation;
}

} // namespace

extern "C" {
PG_FUNCTION_INFO_V1(pg_seal_encrypt_tablespace);
PG_FUNCTION_INFO_V1(pg_seal_decrypt_tablespace);

PGDLLEXPORT Datum pg_seal_encrypt_tablespace(PG_FUNCTION_ARGS)
{
	return sql_entry([&] {
		const char* tablespace = catalog_name_arg(fcinfo, 0, "tablespace");
		const std::string keyring = text_arg(fcinfo, 1, "keyring");
		const bool wait = bool_arg(fcinfo, 2, "wait");
		return Int64GetDatum(static_cast<int64>(encrypt_tablespace(tablespace, keyring, wait)));
	});
}

PGDLLEXPORT Datum pg_seal_decrypt_tablespace(PG_FUNCTION_ARGS)
{
	return sql_entry([&] {
		const char* tablespace = catalog_name_arg(fcinfo, 0, "tablespace");
		const bool wait = bool_arg(fcinfo, 1, "wait");
		return Int64GetDatum(static_cast<int64>(decrypt_tablespace(tablespace, wait)));
	});
}
}

} // namespace seal::pg
