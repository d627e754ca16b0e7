// seal.encrypt_tablespace and decrypt_tablespace: the policy for what is created in, or moved into, a tablespace from now on, and the operation
// that converts what lies there already (operations/). The call returns the number of the operation, at once or when it has ended.
#include "../audit/audit_event.hpp"
#include "../guc.hpp"
#include "../operations/operation_record.hpp"
#include "../operations/tablespace_files.hpp"
#include "key_change.hpp"
#include "key_wrapping.hpp"
#include "operation_wait.hpp"
#include "sql_args.hpp"
#include "sql_entry.hpp"
#include "sql_text.hpp"

extern "C" {
#include "access/xact.h"
#include "commands/tablespace.h"
}

#include <functional>

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
	return pg_call([&] { return get_tablespace_oid(name, false); });
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

// An operation in the other direction would undo what this one does, and one in the same direction does it already.
void refuse_beside_unfinished(const Registry& registry, Oid tablespace)
{
	for (const OperationDef& def : unfinished_operations(registry, tablespace)) {
		const std::string id = std::to_string(def.id);
		fail(ERRCODE_OBJECT_IN_USE,
		     "operation " + id + " is to " + def.kind + " tablespace \"" + def.target + "\", and has not ended (" + def.state + ")",
		     ("Wait until it has ended (seal.operations shows how far it is), or end it with seal.cancel_operation(" + id + ").").c_str());
	}
}

// What is sealed on disk lies in clear in WAL, archive and receivers' files, unless they are sealed first.
void mind_plain_wal(const std::string& name, std::uint64_t pages)
{
	if (pages == 0 || wal_active_generation() != 0 || guc_plain_wal_conversion == plain_wal_allow)
		return;
	const std::string what = "sealing tablespace \"" + name + "\" puts every page into WAL, which is written in clear";
	const char* const hint = "Call seal.enable_wal_encryption() first. pg_seal.plain_wal_conversion says whether this is allowed.";
	if (guc_plain_wal_conversion == plain_wal_refuse)
		fail(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, what, hint);
	notify(WARNING, what, hint);
}

// The policy names the operation, and is registered first: should this process end in between, the launcher registers the operation.
OperationDef set_policy(TablespacePolicy policy, const std::string& name, const std::function<void(const Registry&, TablespacePolicy&)>& complete)
{
	policy.since = now_microseconds();
	policy.set_by = current_role();
	OperationDef def = operation_for_policy(policy, name); // counts pages: may fail, and takes its time
	if (policy.sealed)
		mind_plain_wal(name, def.pages_total);
	policy.operation = next_operation_id();
	change_registry([&](const Registry& now) {
		complete(now, policy);
		return now.put(policy);
	});
	def.id = policy.operation;
	def.keyring_id = policy.keyring_id;
	def.cipher = policy.cipher;
	def.requested_by = policy.set_by;
	operation_create(def);
	return def;
}

void tell_what_begins(const char* doing, const std::string& name, std::uint64_t pages)
{
	if (pages == 0)
		notify(NOTICE, std::string("nothing in tablespace \"") + name + "\" needs " + doing);
	else
		notify(NOTICE,
		       std::string(doing) + " " + std::to_string(pages) + " pages (" + size_text(pages * BLCKSZ) + ") of tablespace \"" + name +
		           "\" in place, which writes about " + size_text(pages * kWalPerPage) + " of WAL",
		       "seal.operations shows the progress.");
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
	OperationDef operation;
	std::string warn_of_loss;
	audited(event, [&] {
		event.detail.text("keyring", keyring_name);
		refuse_waiting_in_block(wait, "seal.encrypt_tablespace");
		TablespacePolicy policy;
		policy.tablespace = tablespace_of(catalog_name);
		policy.sealed = true;
		policy.cipher = chosen_cipher();
		const KeyChange change("seal.encrypt_tablespace()");
		{
			const Registry registry = registry_read();
			need_keyring(registry, keyring_name);
			refuse_beside_unfinished(registry, policy.tablespace);
		}
		event.detail.number("tablespace_oid", policy.tablespace).text("cipher", cipher_name(policy.cipher));
		operation = set_policy(policy, name, [&](const Registry& now, TablespacePolicy& newest) {
			const KeyringDef keyring = need_keyring(now, keyring_name);
			newest.keyring_id = keyring.id;
			if (first_policy(now, keyring.id))
				warn_of_loss = keyring.provider();
		});
		event.detail.number("operation", static_cast<std::int64_t>(operation.id));
	});
	if (!warn_of_loss.empty())
		notify(NOTICE, "without the KEK of keyring \"" + keyring_name + "\" in provider \"" + warn_of_loss +
		                   "\" nothing that it seals can be read, backups included",
		       "Make sure that the provider's keys are backed up by its own means.");
	tell_what_begins("sealing", name, operation.pages_total);
	if (wait)
		wait_for_operation(operation.id);
	return operation.id;
}

std::uint64_t decrypt_tablespace(const char* catalog_name, bool wait)
{
	const std::string name = utf8_from_server(catalog_name);
	AuditEvent event("tablespace.decrypt", name);
	OperationDef operation;
	audited(event, [&] {
		refuse_waiting_in_block(wait, "seal.decrypt_tablespace");
		const Oid tablespace = tablespace_of(catalog_name);
		const KeyChange change("seal.decrypt_tablespace()");
		TablespacePolicy policy;
		policy.tablespace = tablespace;
		{
			const Registry registry = registry_read();
			policy = find_policy(registry, tablespace).value_or(policy);
			refuse_beside_unfinished(registry, tablespace);
		}
		// Not to be sealed, but not all plain: an operation that was cancelled or failed is done again.
		if (!policy.sealed && pg_call([=] { return pages_in_tablespace(tablespace, true); }) == 0)
			fail(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "tablespace \"" + name + "\" is not sealed",
			     "seal.tablespaces lists the policies.");
		policy.sealed = false;
		event.detail.number("tablespace_oid", tablespace);
		operation = set_policy(policy, name, [](const Registry&, TablespacePolicy&) {});
		event.detail.number("operation", static_cast<std::int64_t>(operation.id));
	});
	tell_what_begins("unsealing", name, operation.pages_total);
	if (wait)
		wait_for_operation(operation.id);
	return operation.id;
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
