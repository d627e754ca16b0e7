#include "operation_wait.hpp"

#include "../guard.hpp"
#include "../operations/operation_board.hpp"
#include "../registry/registry_store.hpp"
#include "sql_text.hpp"

extern "C" {
#include "commands/dbcommands.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
}

#include <cinttypes>

namespace seal::pg {

namespace {

constexpr long kPollMs = 100;
constexpr int64 kFirstNotice = 2 * USECS_PER_SEC, kNextNotice = 5 * USECS_PER_SEC;

// No C++ object lives here: a cancel raises.
void doze(uint64 id, bool* told)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, kPollMs, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	if (QueryCancelPending && !*told) {
		*told = true;
		ereport(WARNING, (errmsg("operation " UINT64_FORMAT " goes on, although nobody waits for it any longer", id),
		                  errhint("seal.operations shows how far it is; seal.cancel_operation(" UINT64_FORMAT ") ends it.", id)));
	}
	CHECK_FOR_INTERRUPTS();
}

std::string duration_text(std::int64_t microseconds)
{
	const std::int64_t seconds = microseconds / USECS_PER_SEC;
	char text[64];
	snprintf(text, sizeof text, "%" PRId64 ":%02d:%02d", seconds / 3600, static_cast<int>(seconds / 60 % 60), static_cast<int>(seconds % 60));
	return text;
}

std::string progress_text(const LiveOperation& live)
{
	char text[128];
	std::string out;
	if (live.pages_total > 0) {
		snprintf(text, sizeof text, "%.0f%%, ", 100.0 * static_cast<double>(live.pages_done) / static_cast<double>(live.pages_total));
		out += text;
	}
	snprintf(text, sizeof text, "%" PRIu64 " of %" PRIu64 " pages, %.1f MB/s", live.pages_done, live.pages_total,
	         live.pages_per_second * BLCKSZ / (1024 * 1024));
	out += text;
	if (live.left_us() >= 0)
		out += ", " + duration_text(live.left_us()) + " left";
	if (!live.database.empty())
		out += ", now " + (live.phase.empty() ? std::string("at work") : live.phase) + " in " + live.database +
		       (live.relation.empty() ? "" : "." + live.relation);
	if (!live.waiting_for.empty())
		out += ", waiting for " + live.waiting_for;
	return out;
}

void tell(const OperationDef& def)
{
	const std::string name = "operation " + std::to_string(def.id);
	if (const auto live = live_operation(def.id))
		notify(NOTICE, name + ": " + progress_text(*live));
	else if (def.state == "paused")
		notify(NOTICE, name + " is paused", "seal.resume_operation(" + std::to_string(def.id) + ") lets it go on.");
	else if (const std::uint64_t running = pg_atomic_read_u64(&operation_shared()->id); running != 0)
		notify(NOTICE, name + " waits until operation " + std::to_string(running) + " has ended");
	else if (!operation_launcher_runs())
		notify(NOTICE, name + " cannot begin: the background worker \"pg_seal operations\" does not run", kNoLauncherHint);
	else
		notify(NOTICE, name + " has not begun yet");
}

} // namespace

std::string size_text(std::uint64_t bytes)
{
	constexpr const char* kUnits[] = {"kB", "MB", "GB", "TB", "PB"};
	double size = static_cast<double>(bytes) / 1024;
	std::size_t unit = 0;
	for (; size >= 1024 && unit < std::size(kUnits) - 1; unit++)
		size /= 1024;
	char text[64];
	snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", size, kUnits[unit]);
	return text;
}

std::int64_t LiveOperation::left_us() const
{
	if (pages_per_second < 1 || pages_total <= pages_done)
		return -1;
	return static_cast<std::int64_t>(static_cast<double>(pages_total - pages_done) / pages_per_second * USECS_PER_SEC);
}

std::optional<LiveOperation> live_operation(std::uint64_t id)
{
	OperationBoard* board = operation_board();
	OperationShared& shared = board->shared;
	if (id == 0 || pg_atomic_read_u64(&shared.id) != id)
		return std::nullopt;
	pg_read_barrier();
	OperationText text;
	SpinLockAcquire(&shared.mutex);
	text = shared.text;
	SpinLockRelease(&shared.mutex);
	LiveOperation live;
	live.pages_done = pg_atomic_read_u64(&shared.pages_done);
	live.pages_total = operation_pages_total();
	live.relations_done = pg_atomic_read_u64(&shared.relations_done);
	live.failed_relations = pg_atomic_read_u32(&shared.failed_relations);
	live.wal_bytes = pg_atomic_read_u64(&shared.wal_bytes);
	live.pages_per_second = static_cast<double>(pg_atomic_read_u64(&board->rate)) / 1000;
	if (OidIsValid(text.database))
		if (const char* name = pg_call([&] { return static_cast<const char*>(get_database_name(text.database)); }))
			live.database = utf8_from_server(name);
	live.relation = text.relation;
	live.phase = text.phase;
	live.waiting_for = text.waiting_for;
	live.error = text.error;
	return live;
}

void wait_for_operation(std::uint64_t id)
{
	uint64 seen = UINT64_MAX;
	bool told_of_cancel = false;
	OperationDef def;
	TimestampTz notice_at = GetCurrentTimestamp() + kFirstNotice;
	for (;;) {
		if (const uint64 now = registry_sequence(); now != seen) {
			seen = now;
			const std::string name = "operation " + std::to_string(id);
			std::optional<OperationDef> found = registry_read().operation(id);
			if (!found)
				fail(ERRCODE_UNDEFINED_OBJECT, name + " is no longer known");
			def = std::move(*found);
			if (def.state == "done")
				return;
			if (def.state == "failed")
				fail(ERRCODE_OPERATOR_INTERVENTION, name + " failed: " + def.detail,
				     "What it has done stays; the server log tells more. Remove the cause and repeat the call: it goes on with what is left.");
			if (def.state == "cancelled")
				fail(ERRCODE_OPERATOR_INTERVENTION, name + " was cancelled" + (def.detail.empty() ? "" : ": " + def.detail),
				     "What it has done stays, and so does the policy. Repeat the call to go on with what is left.");
		}
		if (GetCurrentTimestamp() >= notice_at) {
			tell(def);
			notice_at = GetCurrentTimestamp() + kNextNotice;
		}
		pg_call([&] { doze(id, &told_of_cancel); });
	}
}

} // namespace seal::pg
