#include "vacate.hpp"

#include "../operations/operation_board.hpp"

extern "C" {
#include "commands/dbcommands.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
}

namespace seal::pg {

namespace {

constexpr long kPollMs = 20;
constexpr int kPatienceMs = 10 * 1000;

void doze()
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, kPollMs, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

} // namespace

int vacate_take(Oid database)
{
	OperationShared* shared = operation_shared();
	for (;;) {
		for (int slot = 0; slot < kVacateSlots; slot++) {
			uint32 nobody = InvalidOid;
			if (pg_atomic_compare_exchange_u32(&shared->vacate[slot], &nobody, database))
				return slot;
		}
		doze();
	}
}

void vacate_wait(Oid database)
{
	OperationBoard* board = operation_board();
	const TimestampTz give_up = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), kPatienceMs);
	pg_memory_barrier(); // taking the slot comes before looking where the worker is
	while (pg_atomic_read_u32(&board->visiting) == database) {
		if (GetCurrentTimestamp() >= give_up) {
			const uint64 operation = pg_atomic_read_u64(&board->shared.id);
			ereport(NOTICE, (errmsg("operation " UINT64_FORMAT " of pg_seal is still at work in database %u", operation, database),
			                 errhint("Repeat the statement later, or after seal.pause_operation(" UINT64_FORMAT ").", operation)));
			return;
		}
		doze();
	}
}

void vacate_release(int, Datum slot)
{
	pg_atomic_write_u32(&operation_shared()->vacate[DatumGetInt32(slot)], InvalidOid);
	operation_wake_launcher();
}

} // namespace seal::pg
