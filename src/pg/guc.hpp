// Settings (pg_seal.*). Defined in guc.cpp; every one is documented in docs/settings.md.
#pragma once

namespace seal::pg {

extern char* guc_provider_overrides_file; // pg_seal.provider_overrides_file, PGC_POSTMASTER: per-node JSON, may be empty
extern char* guc_pgseal_path;             // pg_seal.pgseal_path, PGC_POSTMASTER: the command; empty: beside the server's binary
extern int guc_unlock_timeout_ms;         // pg_seal.unlock_timeout, PGC_POSTMASTER, ms (default 30 s, at most 55 s)
extern int guc_provider_timeout_ms;       // pg_seal.provider_timeout, PGC_SUSET, ms (default 10 s)
extern int guc_max_relations;             // pg_seal.max_relations, PGC_POSTMASTER: entries of the key index (default 131072)
extern int guc_key_cache_size;            // pg_seal.key_cache_size, PGC_BACKEND: ready contexts per backend (default 1024)
extern int guc_max_hsm_keys;              // pg_seal.max_hsm_keys, PGC_POSTMASTER: DEKs of 'hsm' keyrings held unlocked (default 4096)
extern int guc_tombstone_retention_s;     // pg_seal.tombstone_retention, PGC_SIGHUP, s (default 1 day)
extern bool guc_disable_core_dumps;       // pg_seal.disable_core_dumps, PGC_POSTMASTER (default off)
extern bool guc_encrypt_temp_files;       // pg_seal.encrypt_temp_files, PGC_POSTMASTER (default on)
extern char* guc_default_cipher;          // pg_seal.cipher, PGC_SUSET: 'aes-256-xts' (default) or 'aes-128-xts', for new tablespace policies
extern char* guc_crash_point;             // pg_seal.debug_crash_point, PGC_SUSET, hidden: "name" kills, "name:enospc" fails with ENOSPC

extern int guc_rotation_rate_mb;          // pg_seal.rotation_rate, PGC_SIGHUP: MB of pages per second, 0: no limit (default 100)
enum RequireEncryption : int { require_off, require_warn, require_on };
extern int guc_require_encryption;        // pg_seal.require_encryption, PGC_SUSET: a RequireEncryption (default off)
extern char* guc_plain_tablespaces;       // pg_seal.plain_tablespaces, PGC_SUSET: list of names, may be empty
enum PlainWalConversion : int { plain_wal_allow, plain_wal_warn, plain_wal_refuse };
extern int guc_plain_wal_conversion;      // pg_seal.plain_wal_conversion, PGC_SUSET: a PlainWalConversion (default warn)
extern int guc_wal_key_retention_s;       // pg_seal.wal_key_retention, PGC_SIGHUP, s; 0: retired WAL keys are kept for ever (default)

void define_settings(); // from _PG_init

} // namespace seal::pg
