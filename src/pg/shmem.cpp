#include "shmem.hpp"

#include "temp/temp_seed.hpp"
#include "vault/vault.hpp"
#include "wal/wal_race.hpp"

extern "C" {
#include "storage/ipc.h"
#include "storage/shmem.h"
}

namespace seal::pg {

namespace {
constexpr char kTranche[] = "pg_seal";
LWLockPadded* locks;

struct Part {
	const char* name;
	Size (*size)();
	void (*init)(void*);
};
constexpr Part kParts[] = {
	{"pg_seal registry", registry_shmem_size, registry_shmem_init},
	{"pg_seal keymap", keymap_shmem_size, keymap_shmem_init},
	{"pg_seal transition state", transition_shmem_size, transition_shmem_init},
	{"pg_seal agent", agent_shmem_size, agent_shmem_init},
	{"pg_seal WAL writes", wal_race_shmem_size, wal_race_shmem_init},
	{"pg_seal operations", operation_shmem_size, operation_shmem_init},
};
} // namespace

LWLock* seal_lock(Lock which) noexcept { return &locks[static_cast<int>(which)].lock; }

void shmem_request()
{
	for (const Part& part : kParts)
		RequestAddinShmemSpace(MAXALIGN(part.size()));
	RequestNamedLWLockTranche(kTranche, static_cast<int>(Lock::count));
}

void shmem_startup()
{
	locks = GetNamedLWLockTranche(kTranche);
	vault_reset_locks();
	temp_seed_draw();
	for (const Part& part : kParts) {
		bool found;
		LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
		void* memory = ShmemInitStruct(part.name, part.size(), &found);
		LWLockRelease(AddinShmemInitLock);
		if (!found)
			part.init(memory);
	}
}

} // namespace seal::pg
