// seal.pause_operation, resume_operation, cancel_operation, and the function under the view seal.operations.
//
// A state is changed in the registry, and the launcher is woken: the call returns as soon as the change is durable, whatever the worker is about
// to finish. The policy of the tablespace is not touched: what is created in it goes on following it.
#include "../audit/audit_event.hpp"
#include "../operations/operation_board.hpp"
#include "../operations/operation_record.hpp"
#include "operation_wait.hpp"
#include "sql_args.hpp"
#include "sql_entry.hpp"
#include "sql_rows.hpp"

extern "C" {
#include "access/xlog.h"
}

namespace seal::pg {

namespace {

using Change = void (*)(OperationDef& def);

// `allowed`: the states in which it can be done.
void change_state(FunctionCallInfo fcinfo, const char* event_name, const char* function, std::initializer_list<const char*> allowed,
                  const char* done, Change change)
{
	const std::int64_t id = bigint_arg(fcinfo, 0, "id");
	const std::optional<OperationDef> before = registry_read().operation(static_cast<std::uint64_t>(id));
	AuditEvent event(event_name, before ? before->target : "");
	audited(event, [&] {
		event.detail.number("operation", id);
		refuse_where_nothing_changes(function);
		const std::string name = "operation " + std::to_string(id);
		const bool changed = operation_change(static_cast<std::uint64_t>(id), [&](OperationDef& def) {
			bool fits = false;
			for (const char* state : allowed)
				fits = fits || def.state == state;
			if (!fits)
				fail(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, name + " cannot be " + done + ": it is " + def.state,
				     "seal.operations shows the state of every operation.");
			change(def);
			return true;
		});
		if (!changed)
			raise(Error(ErrorCode::not_found, name + " does not exist", "seal.operations lists the operations."));
	});
}

std::string keyring_name(const std::vector<KeyringDef>& keyrings, std::uint32_t id)
{
	for (const KeyringDef& keyring : keyrings)
		if (keyring.id == id)
			return keyring.name;
	return {};
}

std::string detail_of(const OperationDef& def, const LiveOperation* live)
{
	if (def.leftover)
		return "finishes what it has begun; " + def.detail;
	if (live && def.state == "paused")
		return "finishes what it has begun; " + def.detail;
	if (live)
		return live->waiting_for.empty() ? live->error : "waits for " + live->waiting_for;
	const std::uint64_t running = pg_atomic_read_u64(&operation_shared()->id);
	if (def.state == "pending" && running != 0)
		return "waits until operation " + std::to_string(running) + " has ended";
	if ((def.state == "pending" || def.state == "running") && !operation_launcher_runs() && !RecoveryInProgress())
		return "the background worker \"pg_seal operations\" does not run";
	return def.detail;
}

void operation_row(Rows& rows, const OperationDef& def, const std::vector<KeyringDef>& keyrings)
{
	// The launcher registers the end before it lets go of the shared state.
	const std::optional<LiveOperation> live = def.finished() && !def.leftover ? std::nullopt : live_operation(def.id);
	const auto number = [&](std::uint64_t stored, std::uint64_t LiveOperation::*now) {
		return static_cast<std::int64_t>(live ? (*live).*now : stored);
	};
	rows.bigint(static_cast<std::int64_t>(def.id)).text(def.kind).text(def.target).text(def.state);
	rows.bigint(number(def.pages_done, &LiveOperation::pages_done)).bigint(number(def.pages_total, &LiveOperation::pages_total));
	rows.text_or_null(keyring_name(keyrings, def.keyring_id));
	if (live)
		rows.text_or_null(live->database).text_or_null(live->relation).text_or_null(live->phase);
	else
		rows.null().null().null();
	rows.bigint(number(def.relations_done, &LiveOperation::relations_done));
	rows.bigint(number(def.failed_relations, &LiveOperation::failed_relations));
	if (live)
		rows.real(live->pages_per_second * BLCKSZ / (1024 * 1024));
	else
		rows.null();
	if (live && live->left_us() >= 0)
		rows.interval(live->left_us());
	else
		rows.null();
	rows.bigint(number(def.wal_bytes, &LiveOperation::wal_bytes)).bigint(static_cast<std::int64_t>(def.wal_estimate));
	rows.text_or_null(def.requested_by).time(def.created_at).time(def.started_at).time(def.finished_at);
	rows.text_or_null(detail_of(def, live ? &*live : nullptr)).end();
}

} // namespace

extern "C" {
PG_FUNCTION_INFO_V1(pg_seal_pause_operation);
PG_FUNCTION_INFO_V1(pg_seal_resume_operation);
PG_FUNCTION_INFO_V1(pg_seal_cancel_operation);
PG_FUNCTION_INFO_V1(pg_seal_list_operations);

PGDLLEXPORT Datum pg_seal_pause_operation(PG_FUNCTION_ARGS)
{
	return sql_entry([&] {
		change_state(fcinfo, "operation.pause", "seal.pause_operation()", {"pending", "running"}, "paused", [](OperationDef& def) {
			def.state = "paused";
			def.detail = "paused by " + current_role();
		});
		return Datum{0};
	});
}

PGDLLEXPORT Datum pg_seal_resume_operation(PG_FUNCTION_ARGS)
{
	return sql_entry([&] {
		change_state(fcinfo, "operation.resume", "seal.resume_operation()", {"paused"}, "resumed", [](OperationDef& def) {
			def.state = "pending";
			def.detail.clear();
			def.starts = 0;
		});
		return Datum{0};
	});
}

PGDLLEXPORT Datum pg_seal_cancel_operation(PG_FUNCTION_ARGS)
{
	return sql_entry([&] {
		change_state(fcinfo, "operation.cancel", "seal.cancel_operation()", {"pending", "running", "paused"}, "cancelled", [](OperationDef& def) {
			def.state = "cancelled";
			def.detail = "cancelled by " + current_role();
			def.finished_at = now_microseconds();
			def.leftover = def.started_at != 0;
		});
		return Datum{0};
	});
}

PGDLLEXPORT Datum pg_seal_list_operations(PG_FUNCTION_ARGS)
{
	return sql_entry([&] {
		Rows rows(fcinfo);
		const Registry registry = registry_read();
		const std::vector<KeyringDef> keyrings = registry.keyrings();
		for (const OperationDef& def : registry.operations())
			operation_row(rows, def, keyrings);
		return Datum{0};
	});
}
}

} // namespace seal::pg
