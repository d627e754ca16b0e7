#include "guc.hpp"

#include "pg.hpp"

extern "C" {
#include "utils/guc.h"
}

#include <climits>

namespace seal::pg {

char* guc_provider_overrides_file;
char* guc_pgseal_path;
int guc_unlock_timeout_ms;
int guc_provider_timeout_ms;
int guc_max_relations;
int guc_key_cache_size;
int guc_max_hsm_keys;
int guc_tombstone_retention_s;
bool guc_disable_core_dumps;
char* guc_default_cipher;
char* guc_crash_point;

namespace {
// Stored as text: the registry keeps the cipher's id, this is only the choice for the next policy.
bool check_cipher(char** value, void**, GucSource)
{
	return pg_strcasecmp(*value, "aes-256-xts") == 0 || pg_strcasecmp(*value, "aes-128-xts") == 0;
}
} // namespace

void define_settings()
{
	DefineCustomStringVariable("pg_seal.provider_overrides_file",
	                           "JSON file with this node's own provider settings.",
	                           "An object of provider names, each with the members that differ on this node. Empty: none.",
	                           &guc_provider_overrides_file, "", PGC_POSTMASTER, GUC_SUPERUSER_ONLY, nullptr, nullptr, nullptr);
	DefineCustomStringVariable("pg_seal.pgseal_path", "The pgseal command that unlocks keys and runs the key agent.",
	                           "Empty: the file \"pgseal\" beside the server's own binary.", &guc_pgseal_path, "", PGC_POSTMASTER,
	                           GUC_SUPERUSER_ONLY, nullptr, nullptr, nullptr);
	DefineCustomIntVariable("pg_seal.unlock_timeout", "Longest time that unlocking the keyrings may take at server start.",
	                        nullptr, &guc_unlock_timeout_ms, 30000, 1000, 55000, PGC_POSTMASTER, GUC_UNIT_MS, nullptr, nullptr,
	                        nullptr);
	DefineCustomIntVariable("pg_seal.provider_timeout", "Longest time that one request to a key provider may take.", nullptr,
	                        &guc_provider_timeout_ms, 10000, 100, 600000, PGC_SUSET, GUC_UNIT_MS, nullptr, nullptr, nullptr);
	DefineCustomIntVariable("pg_seal.max_relations", "Sealed relations whose keys are found through the shared index.",
	                        "Beyond this number keys are found by reading the key file, which is slower.", &guc_max_relations,
	                        131072, 1024, 1 << 26, PGC_POSTMASTER, 0, nullptr, nullptr, nullptr);
	DefineCustomIntVariable("pg_seal.key_cache_size", "Relations whose ciphers one server process keeps ready.", nullptr,
	                        &guc_key_cache_size, 1024, 16, 1 << 20, PGC_BACKEND, 0, nullptr, nullptr, nullptr);
	DefineCustomIntVariable("pg_seal.max_hsm_keys", "Keys of relations under 'hsm' keyrings that are held unlocked.", nullptr,
	                        &guc_max_hsm_keys, 4096, 64, 1 << 20, PGC_POSTMASTER, 0, nullptr, nullptr, nullptr);
	DefineCustomIntVariable("pg_seal.tombstone_retention", "How long the key of a dropped relation is kept for running backups.",
	                        nullptr, &guc_tombstone_retention_s, 86400, 0, INT_MAX / 1000, PGC_SIGHUP, GUC_UNIT_S, nullptr, nullptr,
	                        nullptr);
	DefineCustomBoolVariable("pg_seal.disable_core_dumps", "Keeps every server process from writing a core dump.", nullptr,
	                         &guc_disable_core_dumps, false, PGC_POSTMASTER, 0, nullptr, nullptr, nullptr);
	DefineCustomStringVariable("pg_seal.cipher", "Cipher of tablespaces that are sealed from now on.",
	                           "aes-256-xts or aes-128-xts.", &guc_default_cipher, "aes-256-xts", PGC_SUSET, 0, check_cipher,
	                           nullptr, nullptr);
	DefineCustomStringVariable("pg_seal.debug_crash_point", "Developer aid: the named step kills its process.",
	                           "\"name:2\" kills it at the second passage, \"name:enospc\" lets the step fail as on a full disk.", &guc_crash_point, "", PGC_SUSET,
	                           GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE, nullptr, nullptr, nullptr);
}

} // namespace seal::pg
