// Shared memory of the extension inside the server's own segment: sizes are added up once, each part initialises itself.
// It is made anew after a crash-restart; what must survive one lives in the vault (vault/vault.hpp).
#pragma once

#include "pg.hpp"

extern "C" {
#include "storage/lwlock.h"
}

namespace seal::pg {

// One LWLock each, in this order. Lock order: registry, keymap_writer, transition, keymap; never the other way round.
// The audit lock is innermost.
// keymap_writer serialises writers of key files and is held across their fsync; keymap guards the index and is held briefly.
// transition: shared by whoever writes a page in its old form, exclusive while a relation's transition begins or ends.
enum class Lock : int { registry = 0, keymap_writer, transition, keymap, agent, audit, count };
LWLock* seal_lock(Lock which) noexcept;

// Called by module.cpp from shmem_request_hook / shmem_startup_hook. `found` as ShmemInitStruct reports it.
void shmem_request();
void shmem_startup();

// Each part's contribution (implemented by the part).
Size registry_shmem_size();
void registry_shmem_init(void* memory); // reads pg_seal/registry and fills the tables
Size keymap_shmem_size();
void keymap_shmem_init(void* memory);
Size transition_shmem_size();
void transition_shmem_init(void* memory);
Size agent_shmem_size();
void agent_shmem_init(void* memory);
Size operation_shmem_size();
void operation_shmem_init(void* memory);

} // namespace seal::pg
