#include "throttle.hpp"

#include "../guc.hpp"

extern "C" {
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
}

namespace seal::pg {

namespace {
constexpr int kSmallestPiece = 8, kLargestPiece = 1024; // pages
constexpr int64 kPagesPerMegabyte = 1024 * 1024 / BLCKSZ;
constexpr int64 kLargestDebt = 500 * 1000; // us that a slow stretch may be caught up on
} // namespace

int Throttle::piece() const noexcept
{
	if (guc_rotation_rate_mb == 0)
		return kLargestPiece;
	return static_cast<int>(Min(Max(guc_rotation_rate_mb * kPagesPerMegabyte / 20, kSmallestPiece), kLargestPiece));
}

void Throttle::pause(int pages)
{
	if (ConfigReloadPending) {
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	const TimestampTz now = GetCurrentTimestamp();
	if (guc_rotation_rate_mb == 0) {
		due_ = now;
		return;
	}
	due_ = Max(due_, now - kLargestDebt) + pages * (USECS_PER_SEC / kPagesPerMegabyte) / guc_rotation_rate_mb;
	while (GetCurrentTimestamp() < due_ && !ConfigReloadPending) {
		const long left_ms = static_cast<long>((due_ - GetCurrentTimestamp()) / 1000) + 1;
		(void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Min(left_ms, 200L), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

} // namespace seal::pg
