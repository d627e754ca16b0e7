// The vault: unlocked keys in a shared anonymous mapping of their own, made once by the postmaster (vault_create), inherited by
// every child, locked in memory and left out of core dumps. It survives the crash-restart cycle, so a crashed backend never
// makes the server ask the provider again.
//
// Readers take no lock: an entry is published by a release store of its state after its bytes are complete, and is never
// changed in place (a forgotten entry is marked, wiped and may be reused only after a restart of the postmaster or for the same
// key). Writers are serialised by the agent worker being the only writer after start (throwaways and pool takes: spinlock in
// the vault, reset by vault_reset_locks). A writer that dies half-way leaves an entry in state `writing`, which
// vault_reset_locks() frees.
//
// No <string> here: src/pg/storage includes this header. All functions: no ereport except vault_create; callable in
// a critical section.
#pragma once

#include "../pg.hpp"

#include "seal/key_slot.hpp"
#include "seal/wal_cipher.hpp"
#include "seal/temp_file_io.hpp"

extern "C" {
#include "storage/relfilenode.h"
}

namespace seal::pg {

void vault_create(int max_hsm_keys); // postmaster or single-user, from _PG_init; FATAL when the mapping cannot be had
void vault_reset_locks();            // from shmem_startup after a crash: no child exists
bool vault_locked_in_memory() noexcept; // did mlock succeed (health)

// Room in the same mapping for the agent's request slots, which carry secrets too (agent_client/agent_slots.hpp).
inline constexpr Size kVaultAgentRegionSize = 16 * 65536;
void* vault_agent_region() noexcept; // nullptr without a vault

// Keyring keys (at most kMaxKeyringKeys versions in all).
inline constexpr int kMaxKeyringKeys = 4096;
bool vault_put_keyring_key(uint32 keyring, uint32 version, const uint8 key[kKeyringKeySize]) noexcept; // false: full
bool vault_get_keyring_key(uint32 keyring, uint32 version, uint8 key[kKeyringKeySize]) noexcept;
void vault_forget_keyring(uint32 keyring) noexcept;   // wipes every version, its DEKs and its pool
int vault_keyring_ids(uint32* ids, int max) noexcept; // distinct keyrings with anything in the vault; at most `max`

// DEKs of 'hsm' keyrings, named by their slot's wrapped bytes (a SHA-256 of keyring id and blob): the same after raw copies.
bool vault_put_dek(uint32 keyring, const uint8* wrapped, uint32 size, const uint8 seed[kDekSeedSize]) noexcept;
bool vault_get_dek(uint32 keyring, const uint8* wrapped, uint32 size, uint8 seed[kDekSeedSize]) noexcept;
// Keeping the table from filling with the DEKs of dropped relations: the agent worker marks every DEK that a key file still
// holds, then sweeps those that were neither marked in this pass nor entered within the last `grace_s` seconds.
uint32 vault_dek_begin_pass() noexcept;
bool vault_dek_mark(uint32 keyring, const uint8* wrapped, uint32 size, uint32 pass) noexcept; // false: not in the vault
int vault_dek_sweep(uint32 pass, uint32 grace_s) noexcept;                                    // how many were wiped
void vault_dek_usage(uint32* used, uint32* capacity) noexcept;
// Pre-wrapped DEKs waiting for use; the agent worker keeps kPoolTarget per hsm keyring.
struct PooledDek {
	uint32 keyring, kek_version;
	WrapMechanism mechanism;
	uint8 wrapped_size;
	uint8 wrapped[kWrappedSeedMax];
	uint8 seed[kDekSeedSize];
};
inline constexpr int kPoolTarget = 32;
bool vault_pool_take(uint32 keyring, PooledDek* out) noexcept; // also enters it with vault_put_dek
int vault_pool_count(uint32 keyring) noexcept;
bool vault_pool_put(const PooledDek& dek) noexcept;
void vault_pool_drop_older(uint32 keyring, uint32 kek_version) noexcept; // wrapped by an older KEK than this

// Expanded WAL keys, one for each mark (generation modulo kWalGenerations). A later generation takes the place of an earlier one of its mark.
struct VaultWalKey {
	uint32 generation;
	CipherId cipher;
	uint8 key[kWalKeySize]; // a secret: wipe after use
};
bool vault_put_wal_key(const VaultWalKey& key) noexcept;
bool vault_get_wal_key(uint16 mark, VaultWalKey* out) noexcept;
uint32 vault_wal_generation(uint16 mark) noexcept;                   // without its key; 0: none
uint32 vault_newest_wal_generation(uint32 at_most) noexcept;         // 0: none
bool vault_any_wal_key() noexcept;
void vault_forget_wal_key(uint32 generation) noexcept;

// Throwaway DEKs of recovery (PROTOCOLS 3): a relation whose key record is not here yet.
struct RelationId {
	uint32 database, tablespace, rel_node;
};
inline RelationId relation_id(const RelFileNode& node) noexcept { return {node.dbNode, node.spcNode, node.relNode}; }
bool vault_throwaway(const RelationId& relation, uint8 seed[kDekSeedSize]) noexcept; // finds or makes; false: full
bool vault_throwaway_exists(const RelationId& relation) noexcept;
void vault_throwaway_forget(const RelationId& relation) noexcept;
void vault_throwaway_forget_database(uint32 database) noexcept;
bool vault_throwaway_any(RelationId* first) noexcept;

// The seed of files that live no longer than the server runs (temporary, spill, NOTIFY queue): drawn at each start and crash restart, while no
// child exists (the only time it may change), never stored. Number 0: there is none.
void vault_renew_temp_seed(const uint8 seed[kTempSeedSize]) noexcept;
uint32 vault_temp_seed_number() noexcept;
void vault_temp_seed(uint8 seed[kTempSeedSize]) noexcept;
TempChanges* vault_temp_changes() noexcept; // seal/temp_file_io.hpp

} // namespace seal::pg
