#include "guc.hpp"

#include "pg.hpp"

extern "C" {
#include "utils/guc.h"
#include "utils/varlena.h"
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
bool guc_encrypt_temp_files;
char* guc_default_cipher;
char* guc_crash_point;
int guc_rotation_rate_mb;
int guc_require_encryption;
char* guc_plain_tablespaces;
int guc_wal_key_retention_s;
int guc_plain_wal_conversion;

namespace {
// Stored as text: the registry keeps the cipher's id, this is only the choice for the next policy.
bool check_cipher(char** value, void**, GucSource)
{
	return pg_strcasecmp(*value, "aes-256-xts") == 0 || pg_strcasecmp(*value, "aes-128-xts") == 0;
}

constexpr config_enum_entry kRequireEncryption[] = {
	{"off", require_off, false}, {"warn", require_warn, false}, {"on", require_on, false},
	{"false", require_off, true}, {"no", require_off, true}, {"0", require_off, true},
	{"true", require_on, true}, {"yes", require_on, true}, {"1", require_on, true},
	{nullptr, 0, false},
};

constexpr config_enum_entry kPlainWalConversion[] = {
	{"allow", plain_wal_allow, false}, {"warn", plain_wal_warn, false}, {"refuse", plain_wal_refuse, false}, {nullptr, 0, false},
};

// The syntax only: a tablespace may come into being later.
bool check_names(char** value, void**, GucSource)
{
	char* text = pstrdup(*value);
	List* names;
	const bool good = SplitIdentifierString(text, ',', &names);
	if (!good)
		GUC_check_errdetail("List syntax is invalid.");
	list_free(names);
	pfree(text);
	return good;
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
	DefineCustomBoolVariable("pg_seal.encrypt_temp_files", "Seals temporary files, spill files of logical decoding and the queue of NOTIFY.",
	                         "With a key that is drawn when the server starts and is never stored.", &guc_encrypt_temp_files, true,
	                         PGC_POSTMASTER, 0, nullptr, nullptr, nullptr);
	DefineCustomStringVariable("pg_seal.cipher", "Cipher of tablespaces that are sealed from now on.",
	                           "aes-256-xts or aes-128-xts.", &guc_default_cipher, "aes-256-xts", PGC_SUSET, 0, check_cipher,
	                           nullptr, nullptr);
	DefineCustomIntVariable("pg_seal.rotation_rate", "How much data an operation converts in a second, at most.",
	                        "0: as fast as it can. It may be changed while an operation runs.", &guc_rotation_rate_mb, 100, 0, 1 << 20,
	                        PGC_SIGHUP, GUC_UNIT_MB, nullptr, nullptr, nullptr);
	DefineCustomEnumVariable("pg_seal.require_encryption", "What happens when a plain relation is to be created.",
	                         "off: nothing, warn: a warning, on: an error. Temporary relations do not count.", &guc_require_encryption,
	                         require_off, kRequireEncryption, PGC_SUSET, 0, nullptr, nullptr, nullptr);
	DefineCustomStringVariable("pg_seal.plain_tablespaces", "Tablespaces in which plain relations are allowed nevertheless.",
	                           "A list of names.", &guc_plain_tablespaces, "", PGC_SUSET, GUC_LIST_INPUT, check_names, nullptr, nullptr);
	DefineCustomEnumVariable("pg_seal.plain_wal_conversion", "What happens when a tablespace is to be converted while WAL is in clear.",
	                         "Every page passes through WAL: allow it, warn, or refuse.", &guc_plain_wal_conversion, plain_wal_warn,
	                         kPlainWalConversion, PGC_SUSET, 0, nullptr, nullptr, nullptr);
	DefineCustomIntVariable("pg_seal.wal_key_retention", "How long a retired WAL key is kept.",
	                        "0: for ever. No archive or backup with older WAL can be restored after that time; it must be longer "
	                        "than any standby lags behind.", &guc_wal_key_retention_s, 0,
	                        0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S, nullptr, nullptr, nullptr);
	DefineCustomStringVariable("pg_seal.debug_crash_point", "Developer aid: the named step kills its process.",
	                           "\"name:2\" kills it at the second passage, \"name:enospc\" lets the step fail as on a full disk.", &guc_crash_point, "", PGC_SUSET,
	                           GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE, nullptr, nullptr, nullptr);
}

} // namespace seal::pg
