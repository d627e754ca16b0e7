#include "operation_record.hpp"

#include "../audit/audit_log.hpp"
#include "../sqlapi/sql_text.hpp"
#include "operation_board.hpp"
#include "tablespace_files.hpp"

extern "C" {
#include "commands/tablespace.h"
}

#include <algorithm>

namespace seal::pg {

namespace {

AuditRecord record_of(const char* event, const OperationDef& def, bool ok)
{
	AuditDetail detail;
	detail.number("operation", static_cast<std::int64_t>(def.id)).text("kind", def.kind).number("tablespace_oid", def.tablespace);
	detail.text("requested_by", def.requested_by);
	if (def.finished()) {
		detail.text("state", def.state).number("pages", static_cast<std::int64_t>(def.pages_done));
		detail.number("relations", static_cast<std::int64_t>(def.relations_done));
		detail.number("failed_relations", static_cast<std::int64_t>(def.failed_relations));
		detail.number("wal_bytes", static_cast<std::int64_t>(def.wal_bytes));
	}
	if (!def.detail.empty())
		detail.text(ok ? "note" : "error", def.detail);
	AuditRecord record;
	record.event = event;
	record.object = def.target;
	record.result = ok ? "ok" : "failed";
	record.detail = detail.str();
	return record;
}

} // namespace

void audit_operation(const char* event, const OperationDef& def, bool ok) noexcept
{
	char why[512];
	try {
		audit_append(record_of(event, def, ok));
		return;
	} catch (const SealError& e) {
		strlcpy(why, e.error.message.c_str(), sizeof why);
	} catch (const std::exception& e) {
		strlcpy(why, e.what(), sizeof why);
	} catch (...) {
		strlcpy(why, "unknown reason", sizeof why);
	}
	try {
		pg_call([&] { ereport(WARNING, (errmsg("pg_seal operations: \"%s\" was not recorded in the audit log: %s", event, why))); });
	} catch (...) {
		// nobody is left to be told
	}
}

std::uint64_t operation_create(OperationDef def)
{
	if (def.id == 0)
		def.id = next_operation_id();
	def.state = "pending";
	def.created_at = def.updated_at = now_microseconds();
	change_registry([&](const Registry& now) { return now.put(def); });
	operation_wake_launcher();
	return def.id;
}

void create_lost_operations()
{
	const Registry registry = registry_read();
	const std::vector<OperationDef> known = registry.operations();
	for (const TablespacePolicy& policy : registry.tablespaces()) {
		const auto later = std::count_if(known.begin(), known.end(), [&](const OperationDef& def) { return def.id > policy.operation; });
		if (policy.operation == 0 || registry.operation(policy.operation) || static_cast<std::size_t>(later) >= kFinishedOperationsKept)
			continue; // registered; in the last case so long ago that it is no longer kept
		const Oid tablespace = policy.tablespace;
		const char* name = pg_call([=] { return static_cast<const char*>(get_tablespace_name(tablespace)); });
		if (!name)
			continue;
		OperationDef def = operation_for_policy(policy, utf8_from_server(name));
		def.id = policy.operation;
		def.requested_by = policy.set_by;
		audit_operation("operation.create", def, true);
		(void) operation_create(std::move(def));
	}
}

OperationDef operation_for_policy(const TablespacePolicy& policy, const std::string& name)
{
	const Oid tablespace = policy.tablespace;
	const bool sealed = policy.sealed;
	OperationDef def;
	def.kind = sealed ? "encrypt" : "decrypt";
	def.tablespace = tablespace;
	def.target = name;
	def.keyring_id = policy.keyring_id;
	def.cipher = policy.cipher;
	def.pages_total = pg_call([=] { return pages_in_tablespace(tablespace, !sealed); });
	def.wal_estimate = def.pages_total * kWalPerPage;
	return def;
}

bool operation_change(std::uint64_t id, const std::function<bool(OperationDef&)>& change)
{
	{
		const ExclusiveLwLock lock(Lock::registry);
		const Registry now = registry_read();
		std::optional<OperationDef> def = now.operation(id);
		if (!def || !change(*def))
			return false;
		def->updated_at = now_microseconds();
		registry_commit(now.put(*def));
	}
	operation_wake_launcher();
	return true;
}

std::vector<OperationDef> unfinished_operations(const Registry& registry, Oid tablespace)
{
	std::vector<OperationDef> found;
	for (OperationDef& def : registry.operations())
		if (!def.finished() && (!OidIsValid(tablespace) || def.tablespace == tablespace))
			found.push_back(std::move(def));
	return found;
}

std::optional<OperationDef> operation_to_run(const Registry& registry)
{
	for (OperationDef& def : registry.operations())
		if (def.leftover)
			return std::move(def);
	std::optional<OperationDef> oldest;
	for (OperationDef& def : unfinished_operations(registry, InvalidOid)) {
		if (def.state == "running")
			return std::move(def);
		if (def.state == "pending" && !oldest)
			oldest = std::move(def);
	}
	return oldest;
}

void operations_of_dropped_tablespace(Oid tablespace)
{
	for (const OperationDef& found : registry_read().operations()) {
		if (found.tablespace != tablespace || (found.finished() && !found.leftover))
			continue;
		OperationDef ended;
		const bool changed = operation_change(found.id, [&](OperationDef& def) {
			if (def.finished() && !def.leftover)
				return false;
			def.state = "cancelled";
			def.finished_at = now_microseconds();
			def.detail = "the tablespace was dropped";
			def.leftover = false;
			ended = def;
			return true;
		});
		if (changed)
			audit_operation("operation.end", ended, true);
	}
}

} // namespace seal::pg
