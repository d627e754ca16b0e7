// The shared side of the agent client: slots, counters, wishes. No waiting, nothing that raises (but for the overrides file).
#include "agent_slots.hpp"

#include "../guard.hpp"
#include "../guc.hpp"
#include "../shmem.hpp"

extern "C" {
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/timestamp.h"
}

#include <cerrno>
#include <ctime>
#include <fcntl.h>
#include <unistd.h>

namespace seal::pg {

constinit AgentShared* agent_shared = nullptr;

namespace {
constexpr std::size_t kMaxOverrides = 1u << 20;

class WishGuard {
public:
	WishGuard() noexcept { SpinLockAcquire(&agent_shared->mutex); }
	~WishGuard() { SpinLockRelease(&agent_shared->mutex); }
	WishGuard(const WishGuard&) = delete;
};
} // namespace

Size agent_shmem_size() { return sizeof(AgentShared); }

void agent_shmem_init(void* memory)
{
	memset(memory, 0, sizeof(AgentShared));
	agent_shared = static_cast<AgentShared*>(memory);
	agent_shared->worker_procno.store(-1);
	SpinLockInit(&agent_shared->mutex);
	// The slots outlive a crash-restart with their mapping, their owners do not.
	if (AgentSlot* slots = agent_slots())
		for (int i = 0; i < kAgentSlots; i++)
			agent_slot_release(slots[i]);
}

AgentSlot* agent_slots() noexcept { return static_cast<AgentSlot*>(vault_agent_region()); }

void agent_slot_release(AgentSlot& slot) noexcept
{
	wipe(slot.bytes, sizeof slot.bytes);
	slot.size = 0;
	slot.use.store(SlotUse::free, std::memory_order_release);
}

int64 monotonic_us() noexcept
{
	timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return int64{now.tv_sec} * 1000000 + now.tv_nsec / 1000;
}

void agent_wake() noexcept
{
	if (!agent_shared)
		return;
	const int32 worker = agent_shared->worker_procno.load();
	if (worker >= 0)
		SetLatch(&ProcGlobal->allProcs[worker].procLatch);
}

void agent_want_keyring(uint32) noexcept
{
	// The worker loads whatever the registry names and the vault lacks: that somebody waits is all it must know.
	if (!agent_shared)
		return;
	agent_shared->keyring_wanted.store(true);
	agent_wake();
}

void agent_want_dek(uint32 keyring_id, const uint8* wrapped, uint32 size, uint32 kek_version) noexcept
{
	if (!agent_shared || size > kWrappedSeedMax)
		return;
	{
		WishGuard guard;
		for (uint32 i = 0; i < agent_shared->wanted_count; i++) {
			const WantedDek& other = agent_shared->wanted[i];
			if (other.keyring == keyring_id && other.size == size && memcmp(other.wrapped, wrapped, size) == 0)
				return; // the one who added it woke the worker
		}
		if (agent_shared->wanted_count < kMaxWantedDeks) {
			WantedDek& wanted = agent_shared->wanted[agent_shared->wanted_count++];
			wanted.keyring = keyring_id;
			wanted.kek_version = kek_version;
			wanted.size = size;
			memcpy(wanted.wrapped, wrapped, size);
		} else
			agent_shared->deks_overflow.store(true);
	}
	agent_wake();
}

void agent_note_error(const char* message) noexcept
{
	if (!agent_shared)
		return;
	const TimestampTz now = GetCurrentTimestamp();
	agent_shared->failures.fetch_add(1, std::memory_order_relaxed);
	WishGuard guard;
	strlcpy(agent_shared->last_error, message, sizeof agent_shared->last_error);
	agent_shared->last_error_at = now;
}

AgentHealth agent_health() noexcept
{
	AgentHealth health{};
	if (!agent_shared)
		return health;
	health.worker_running = agent_shared->worker_procno.load() >= 0;
	health.agent_running = agent_shared->agent_answers.load();
	health.worker_pid = agent_shared->worker_pid.load();
	health.agent_pid = agent_shared->agent_pid.load();
	health.agent_starts = agent_shared->agent_starts.load();
	health.requests = agent_shared->requests.load();
	health.failures = agent_shared->failures.load();
	WishGuard guard;
	strlcpy(health.last_error, agent_shared->last_error, sizeof health.last_error);
	health.last_error_at = agent_shared->last_error_at;
	return health;
}

std::string provider_overrides_text()
{
	std::string text;
	if (!guc_provider_overrides_file || guc_provider_overrides_file[0] == '\0')
		return text;
	const int fd = open(guc_provider_overrides_file, O_RDONLY | O_CLOEXEC);
	int error = fd < 0 ? errno : 0;
	char block[4096];
	while (fd >= 0) {
		const ssize_t n = read(fd, block, sizeof block);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			error = errno;
		if (n > 0)
			text.append(block, static_cast<std::size_t>(n));
		if (text.size() > kMaxOverrides)
			error = EFBIG;
		if (n <= 0 || error != 0) {
			close(fd);
			break;
		}
	}
	if (error != 0)
		raise({ErrorCode::io_error,
		       "could not read file \"" + std::string(guc_provider_overrides_file) + "\": " + strerror(error),
		       "The setting pg_seal.provider_overrides_file names it."});
	return text;
}

} // namespace seal::pg
