#include "operation_run.hpp"

#include "../guard.hpp"
#include "../registry/registry_store.hpp"
#include "operation_board.hpp"
#include "operation_record.hpp"
#include "tablespace_files.hpp"
#include "worker_visit.hpp"

extern "C" {
#include "access/xact.h"
#include "catalog/pg_database_d.h"
#include "catalog/pg_tablespace_d.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/procsignal.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
}

#include <algorithm>

namespace seal::pg {

namespace {

constexpr int64 kSecond = USECS_PER_SEC;
constexpr int64 kSaveEvery = 15 * kSecond;
constexpr int64 kFirstSave = 2 * kSecond; // after a start that follows an interruption: so soon it counts as headway
constexpr int64 kLongestBackoff = 60 * kSecond;
constexpr int64 kSlotRetry = 5 * kSecond;
constexpr long kPollMs = 1000;
constexpr int kFailingPasses = 3; // in a row: then the operation has failed

// Exceptions leave the transaction open: they end this process.
template <class F> void in_transaction(F&& fn)
{
	pg_call([] { StartTransactionCommand(); });
	fn();
	pg_call([] { CommitTransactionCommand(); });
}

int64 backoff(unsigned attempts) { return std::min(kLongestBackoff, kSecond << std::min(attempts, 6u)); }

struct Target {
	Oid oid;
	std::string name;
	bool todo = true;
	unsigned deaths = 0;
	TimestampTz not_before = 0;
};

class OperationRun {
public:
	explicit OperationRun(OperationDef def) : def_(std::move(def)) {}
	void run();

private:
	enum class Pass { clean, found_work, interrupted };

	bool begin();
	void publish();
	void wait_for_others();
	Pass pass();
	void visit(Target& target);
	std::vector<Target> targets();
	void forget_dropped(std::vector<Target>& of_pass);
	void end();
	void leave();

	StopRequest asked();
	bool wanted() { return asked() == StopRequest::none; }
	StopRequest tick();
	bool pause(int64 microseconds); // false: not wanted any more
	void sample(TimestampTz now);
	void note_counters(OperationDef& def) const;
	void save();
	std::string error_text() const;
	void set_waiting(const std::string& what);
	void clear_error();

	OperationDef def_; // as of the beginning
	OperationShared& shared_ = *operation_shared();
	OperationBoard& board_ = *operation_board();
	uint64 seen_sequence_ = 0;
	StopRequest asked_ = StopRequest::none;
	bool leftover_ = false; // the operation is cancelled; only what it began is finished
	TimestampTz saved_at_ = 0, sampled_at_ = 0;
	uint64 saved_pages_ = 0, sampled_pages_ = 0;
	uint64 found_ = 0; // by all workers of this pass
	bool failed_ = false;
	std::string skipped_; // databases that nobody can connect to
};

// --- what the registry says ---

bool OperationRun::begin()
{
	bool first = false, taken = false;
	in_transaction([&] {
		taken = operation_change(def_.id, [&](OperationDef& def) {
			first = def.started_at == 0;
			leftover_ = def.leftover;
			if (!leftover_) { // else its state stays
				if (def.state != "pending" && def.state != "running")
					return false;
				def.state = "running";
				def.detail.clear();
			}
			if (first)
				def.started_at = now_microseconds();
			def.starts++;
			def_ = def;
			return true;
		});
	});
	if (taken && first)
		audit_operation("operation.begin", def_, true);
	if (taken)
		ereport(LOG, (errmsg("pg_seal operation %llu %s: %s tablespace \"%s\"", (unsigned long long) def_.id,
		                     leftover_ ? "was cancelled, and finishes what it has begun"
		                     : first   ? "begins"
		                               : "goes on",
		                     def_.kind.c_str(), def_.target.c_str())));
	return taken;
}

StopRequest OperationRun::asked()
{
	if (ProcDiePending)
		return StopRequest::leave;
	const uint64 now = registry_sequence();
	if (now != seen_sequence_) {
		const std::optional<OperationDef> def = registry_read().operation(def_.id);
		if (!def)
			asked_ = StopRequest::leave;
		else if (leftover_ ? def->leftover : def->state == "running")
			asked_ = StopRequest::none;
		else
			asked_ = def->state == "cancelled" ? StopRequest::finish : StopRequest::leave;
		seen_sequence_ = now;
	}
	return asked_;
}

void OperationRun::note_counters(OperationDef& def) const
{
	def.pages_done = pg_atomic_read_u64(const_cast<pg_atomic_uint64*>(&shared_.pages_done));
	def.pages_total = operation_pages_total();
	def.relations_done = pg_atomic_read_u64(const_cast<pg_atomic_uint64*>(&shared_.relations_done));
	def.wal_bytes = pg_atomic_read_u64(const_cast<pg_atomic_uint64*>(&shared_.wal_bytes));
	def.failed_relations = pg_atomic_read_u32(const_cast<pg_atomic_uint32*>(&shared_.failed_relations));
}

void OperationRun::save()
{
	saved_at_ = GetCurrentTimestamp();
	OperationText text;
	SpinLockAcquire(&shared_.mutex);
	text = shared_.text;
	SpinLockRelease(&shared_.mutex);
	in_transaction([&] {
		(void) operation_change(def_.id, [&](OperationDef& def) {
			note_counters(def);
			if (def.pages_done > saved_pages_)
				def.starts = 0;
			saved_pages_ = def.pages_done;
			if (def.state == "running")
				def.detail = text.waiting_for[0] != '\0' ? text.waiting_for : text.error;
			return true;
		});
	});
}

// --- what the world sees meanwhile ---

void OperationRun::publish()
{
	SpinLockAcquire(&shared_.mutex);
	memset(&shared_.text, 0, sizeof shared_.text);
	SpinLockRelease(&shared_.mutex);
	pg_atomic_write_u64(&shared_.pages_done, def_.pages_done);
	pg_atomic_write_u64(&shared_.pages_total, def_.pages_done);
	pg_atomic_write_u64(&shared_.relations_done, def_.relations_done);
	pg_atomic_write_u64(&shared_.wal_bytes, def_.wal_bytes);
	pg_atomic_write_u32(&shared_.failed_relations, 0);
	pg_atomic_write_u64(&board_.rate, 0);
	pg_atomic_write_u64(&board_.pages_estimate, def_.wal_estimate / kWalPerPage);
	pg_write_barrier();
	pg_atomic_write_u64(&shared_.id, def_.id);
	saved_pages_ = sampled_pages_ = def_.pages_done;
	saved_at_ = sampled_at_ = GetCurrentTimestamp();
}

void OperationRun::sample(TimestampTz now)
{
	const int64 passed = now - sampled_at_;
	if (passed < kSecond * 9 / 10)
		return;
	const uint64 pages = pg_atomic_read_u64(&shared_.pages_done);
	const double rate = 1000.0 * kSecond * static_cast<double>(pages - std::min(pages, sampled_pages_)) / static_cast<double>(passed);
	const auto former = static_cast<double>(pg_atomic_read_u64(&board_.rate));
	pg_atomic_write_u64(&board_.rate, static_cast<uint64>(former > 0 ? former * 0.8 + rate * 0.2 : rate));
	sampled_pages_ = pages;
	sampled_at_ = now;
}

StopRequest OperationRun::tick()
{
	const TimestampTz now = GetCurrentTimestamp();
	sample(now);
	if (now - saved_at_ >= (def_.starts > 1 && saved_pages_ == def_.pages_done ? kFirstSave : kSaveEvery))
		save();
	return asked();
}

bool OperationRun::pause(int64 microseconds)
{
	const TimestampTz until = GetCurrentTimestamp() + microseconds;
	while (tick() == StopRequest::none) {
		const int64 left = until - GetCurrentTimestamp();
		if (left <= 0)
			return true;
		pg_call([&] { launcher_pause(std::min<long>(kPollMs, static_cast<long>(left / 1000) + 1)); });
	}
	return false;
}

void OperationRun::set_waiting(const std::string& what) { operation_set_waiting(what.c_str()); }

std::string OperationRun::error_text() const
{
	SpinLockAcquire(&shared_.mutex);
	const OperationText text = shared_.text;
	SpinLockRelease(&shared_.mutex);
	return text.error;
}

void OperationRun::clear_error()
{
	SpinLockAcquire(&shared_.mutex);
	shared_.text.error[0] = '\0';
	SpinLockRelease(&shared_.mutex);
	pg_atomic_write_u32(&shared_.failed_relations, 0);
}

// --- the work ---

// Nobody creates a file under the former policy after this; and who was creating, copying or altering a database has committed, so that the
// passes see it. Waited for without queueing: nobody waits behind this process.
void OperationRun::wait_for_others()
{
	pg_call([] { WaitForProcSignalBarrier(EmitProcSignalBarrier(PROCSIGNAL_BARRIER_SMGRRELEASE)); });
	pg_call([] { StartTransactionCommand(); });
	LOCKTAG tag;
	SET_LOCKTAG_RELATION(tag, InvalidOid, DatabaseRelationId);
	int count = 0;
	VirtualTransactionId* holders = pg_call([&] { return GetLockConflicts(&tag, ShareLock, &count); });
	for (int i = 0; i < count && wanted(); i++)
		while (!pg_call([&] { return VirtualXactLock(holders[i], false); })) {
			set_waiting("a transaction that creates or alters a database");
			pg_call([] { launcher_pause(kPollMs); });
			if (!wanted())
				break;
		}
	pg_call([] { CommitTransactionCommand(); });
	set_waiting("");
}

std::vector<Target> OperationRun::targets()
{
	std::vector<Target> found;
	skipped_.clear();
	in_transaction([&] {
		TargetDatabase* databases;
		const int count = pg_call([&] { return databases_of_tablespace(def_.tablespace, &databases); });
		for (int i = 0; i < count; i++) {
			if (databases[i].invalid)
				skipped_ += (skipped_.empty() ? "" : ", ") + std::string("\"") + databases[i].name + "\"";
			else
				found.push_back({databases[i].oid, databases[i].name, true, 0, 0});
		}
	});
	return found;
}

void OperationRun::forget_dropped(std::vector<Target>& of_pass)
{
	const std::vector<Target> now = targets();
	if (def_.tablespace == GLOBALTABLESPACE_OID && !now.empty() && now.front().oid != of_pass.front().oid)
		of_pass = now; // another database will do
	for (Target& target : of_pass)
		target.todo = target.todo && std::any_of(now.begin(), now.end(), [&](const Target& t) { return t.oid == target.oid; });
}

void OperationRun::visit(Target& target)
{
	const Oid database = target.oid;
	in_transaction([&] { target.todo = pg_call([=] { return SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(database)); }); });
	if (!target.todo)
		return; // dropped meanwhile
	ConvertTask task;
	memset(&task, 0, sizeof task); // its padding goes into shared memory too
	task.operation = def_.id;
	task.database = target.oid;
	task.tablespace = def_.tablespace;
	task.begun_only = leftover_;

	const Visit how = visit_database(task, [this] { return tick(); });

	found_ += pg_atomic_read_u64(&shared_.work_found);
	if (how != Visit::waiting) {
		set_waiting("");
		operation_set_place(InvalidOid, "", "");
	}
	switch (how) {
	case Visit::done: target.todo = false; break;
	case Visit::failed:
		target.todo = false;
		failed_ = true;
		break;
	case Visit::waiting:
	case Visit::stopped:
	case Visit::vacated: target.not_before = GetCurrentTimestamp() + kSecond; break;
	case Visit::no_slot:
		set_waiting("a free background worker (max_worker_processes = " + std::to_string(max_worker_processes) + ")");
		target.not_before = GetCurrentTimestamp() + kSlotRetry;
		break;
	case Visit::died:
		target.not_before = GetCurrentTimestamp() + backoff(target.deaths++);
		if (!ProcDiePending && wanted())
			set_waiting("a new worker in database \"" + target.name + "\": the last one ended early, see the server log");
		break;
	}
}

OperationRun::Pass OperationRun::pass()
{
	found_ = 0;
	failed_ = false;
	clear_error();
	std::vector<Target> of_pass = targets();
	while (def_.tablespace == GLOBALTABLESPACE_OID && of_pass.empty()) { // each is being dropped, copied or renamed
		if (!pause(kSecond))
			return Pass::interrupted;
		of_pass = targets();
	}
	for (;;) {
		TimestampTz next = 0;
		for (Target& target : of_pass) {
			if (!wanted())
				return Pass::interrupted;
			if (target.todo && target.not_before <= GetCurrentTimestamp())
				visit(target);
			if (target.todo)
				next = next == 0 ? target.not_before : std::min(next, target.not_before);
		}
		if (next == 0)
			break;
		if (!pause(std::max<int64>(next - GetCurrentTimestamp(), 0)))
			return Pass::interrupted;
		forget_dropped(of_pass);
	}
	failed_ = failed_ || pg_atomic_read_u32(&shared_.failed_relations) > 0;
	return found_ > 0 ? Pass::found_work : Pass::clean;
}

void OperationRun::end()
{
	bool ended = false;
	in_transaction([&] {
		ended = operation_change(def_.id, [&](OperationDef& def) {
			if (leftover_) { // its state stays
				note_counters(def);
				def.leftover = false;
				if (failed_)
					def.detail += "; what it had begun was not finished: " + error_text();
				return true;
			}
			if (def.state != "running") // cancelled or paused at the last moment
				return false;
			note_counters(def);
			def.state = failed_ ? "failed" : "done";
			def.finished_at = now_microseconds();
			def.detail.clear();
			if (failed_) {
				def.detail = error_text();
				if (def.detail.empty())
					def.detail = "the server log tells why";
			} else {
				def.pages_total = def.pages_done;
				if (!skipped_.empty())
					def.detail = "skipped, because nobody can connect to what an interrupted DROP DATABASE left: " + skipped_;
			}
			def_ = def;
			audit_operation("operation.end", def, !failed_); // before anybody can see the end
			return true;
		});
	});
	if (!ended || leftover_)
		return;
	const auto pages = static_cast<unsigned long long>(def_.pages_done), relations = static_cast<unsigned long long>(def_.relations_done);
	const auto id = static_cast<unsigned long long>(def_.id);
	if (failed_)
		ereport(WARNING, (errmsg("pg_seal operation %llu failed after %llu pages of %llu relations: %s", id, pages, relations, def_.detail.c_str())));
	else
		ereport(LOG, (errmsg("pg_seal operation %llu is done: %llu pages of %llu relations", id, pages, relations)));
}

// Paused, cancelled, or this process ends: what was done is noted; whoever changed the state has said why.
void OperationRun::leave()
{
	in_transaction([&] {
		(void) operation_change(def_.id, [&](OperationDef& def) {
			note_counters(def);
			def.starts = 0;
			return true;
		});
	});
}

void OperationRun::run()
{
	if (!begin())
		return;
	publish();
	seen_sequence_ = 0;
	bool whole = true;
	if (def_.starts > 1) {
		set_waiting("a moment: it was interrupted before it got on, " + std::to_string(def_.starts - 1) + " in a row");
		whole = pause(backoff(def_.starts - 1));
		set_waiting("");
	}
	if (whole && !leftover_)
		wait_for_others();
	for (int failing = 0; whole && wanted();) {
		const uint64 pages_before = pg_atomic_read_u64(&shared_.pages_done);
		const Pass how = pass();
		if (how == Pass::interrupted)
			break;
		failing = failed_ ? failing + 1 : 0;
		if (how == Pass::clean || failing >= kFailingPasses) {
			end();
			whole = false;
		} else if (pg_atomic_read_u64(&shared_.pages_done) == pages_before) { // what is left is locked by somebody
			(void) pause(kSecond);
		}
	}
	if (whole && !wanted())
		leave();
	pg_atomic_write_u64(&shared_.id, 0);
}

} // namespace

bool run_next_operation()
{
	std::optional<OperationDef> next = operation_to_run(registry_read());
	if (!next)
		return false;
	OperationRun(std::move(*next)).run();
	return true;
}

} // namespace seal::pg
