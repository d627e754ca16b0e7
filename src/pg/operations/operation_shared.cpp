#include "operation_board.hpp"

#include "../guard.hpp"
#include "../sqlapi/sql_text.hpp"

extern "C" {
#include "mb/pg_wchar.h"
#include "postmaster/interrupt.h"
#include "storage/proc.h"
}

namespace seal::pg {

namespace {

OperationBoard* board; // in shared memory

// A copy that fits, cut between characters.
void put(char* to, std::size_t room, const char* utf8) noexcept
{
	const int size = static_cast<int>(strlen(utf8));
	const int fits = pg_encoding_mbcliplen(PG_UTF8, utf8, size, static_cast<int>(room) - 1);
	memcpy(to, utf8, static_cast<std::size_t>(fits));
	to[fits] = '\0';
}

// Converts outside the mutex. What cannot be converted keeps its ASCII characters.
template <std::size_t N> void prepare(char (&to)[N], const char* text) noexcept
{
	if (!text)
		text = "";
	try {
		put(to, N, utf8_from_server(text).c_str());
	} catch (...) {
		strlcpy(to, text, N);
		for (char* c = to; *c != '\0'; ++c)
			if (IS_HIGHBIT_SET(*c))
				*c = '?';
	}
}

} // namespace

OperationBoard* operation_board() noexcept { return board; }

OperationShared* operation_shared() noexcept { return &board->shared; }

Size operation_shmem_size() { return sizeof(OperationBoard); }

void operation_shmem_init(void* memory)
{
	memset(memory, 0, sizeof(OperationBoard));
	board = static_cast<OperationBoard*>(memory);
	OperationShared& shared = board->shared;
	SpinLockInit(&shared.mutex);
	for (pg_atomic_uint64* counter :
	     {&shared.id, &shared.pages_done, &shared.pages_total, &shared.relations_done, &shared.wal_bytes, &shared.work_found,
	      &shared.stray_operation, &shared.stray_xid, &board->rate, &board->pages_estimate})
		pg_atomic_init_u64(counter, 0);
	for (pg_atomic_uint32* word :
	     {&shared.failed_relations, &shared.stop_requested, &shared.outcome, &board->launcher, &board->visiting, &board->worker_pid})
		pg_atomic_init_u32(word, 0);
	for (pg_atomic_uint32& slot : shared.vacate)
		pg_atomic_init_u32(&slot, InvalidOid);
}

uint64 operation_pages_total() noexcept
{
	const uint64 estimate = pg_atomic_read_u64(&board->pages_estimate);
	return Max(estimate > 0 ? estimate : pg_atomic_read_u64(&board->shared.pages_total), pg_atomic_read_u64(&board->shared.pages_done));
}

bool operation_vacated(Oid database) noexcept
{
	for (pg_atomic_uint32& slot : board->shared.vacate)
		if (pg_atomic_read_u32(&slot) == database)
			return true;
	return false;
}

StopRequest operation_stop_request(Oid my_database) noexcept
{
	if (operation_vacated(my_database) || ShutdownRequestPending || ProcDiePending)
		return StopRequest::leave;
	return static_cast<StopRequest>(pg_atomic_read_u32(&board->shared.stop_requested));
}

void operation_set_place(Oid database, const char* relation, const char* phase) noexcept
{
	char name[sizeof OperationText::relation], step[sizeof OperationText::phase];
	prepare(name, relation);
	prepare(step, phase);
	OperationShared& shared = board->shared;
	SpinLockAcquire(&shared.mutex);
	shared.text.database = database;
	memcpy(shared.text.relation, name, sizeof name);
	memcpy(shared.text.phase, step, sizeof step);
	SpinLockRelease(&shared.mutex);
}

void operation_set_waiting(const char* what) noexcept
{
	char text[sizeof OperationText::waiting_for];
	prepare(text, what);
	OperationShared& shared = board->shared;
	SpinLockAcquire(&shared.mutex);
	memcpy(shared.text.waiting_for, text, sizeof text);
	SpinLockRelease(&shared.mutex);
}

void operation_set_error(const char* message) noexcept
{
	char text[sizeof OperationText::error];
	prepare(text, message);
	OperationShared& shared = board->shared;
	SpinLockAcquire(&shared.mutex);
	if (shared.text.error[0] == '\0')
		memcpy(shared.text.error, text, sizeof text);
	SpinLockRelease(&shared.mutex);
}

bool operation_launcher_runs() noexcept { return pg_atomic_read_u32(&board->launcher) != 0; }

void operation_wake_launcher() noexcept
{
	const uint32 launcher = pg_atomic_read_u32(&board->launcher);
	if (launcher != 0)
		SetLatch(&ProcGlobal->allProcs[launcher - 1].procLatch);
}

} // namespace seal::pg
