// The module's entry: what happens once, in the postmaster, while shared_preload_libraries is processed.
//
// Order matters and every step fails closed: settings, self-test, storage seam, file seam, vault, unlock (the provider is asked here and not again
// until something new is wanted), resource manager, hooks, workers.
#include "agent_client/agent_client.hpp"
#include "audit/audit_log.hpp"
#include "ddl/ddl_guard.hpp"
#include "files/file_seam.hpp"
#include "guc.hpp"
#include "operations/operation_launcher.hpp"
#include "shmem.hpp"
#include "storage/seam.hpp"
#include "vault/vault.hpp"
#include "wal/wal_keys.hpp"
#include "wal/wal_receivers.hpp"
#include "wal/wal_switch.hpp"
#include "workers/reaper_worker.hpp"
#include "xlog.hpp"

#include "seal/page_cipher.hpp"

extern "C" {
#include "fmgr.h"
#include "storage/dsm_impl.h"
#include "storage/ipc.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init();
}

#include <sys/prctl.h>
#include <sys/resource.h>

namespace seal::pg {

namespace {

shmem_request_hook_type previous_shmem_request;
shmem_startup_hook_type previous_shmem_startup;

void on_shmem_request()
{
	if (previous_shmem_request)
		previous_shmem_request();
	shmem_request();
}

void on_shmem_startup()
{
	if (previous_shmem_startup)
		previous_shmem_startup();
	shmem_startup();
}

// Refused before the first session: tuples pass through these files in clear.
void check_server_settings()
{
	if (dynamic_shared_memory_type == DSM_IMPL_MMAP)
		ereport(FATAL, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		                errmsg("dynamic_shared_memory_type = mmap writes table contents to files in clear"),
		                errhint("Set dynamic_shared_memory_type = posix.")));
}

void disable_core_dumps()
{
	const rlimit none = {0, 0};
	if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0) != 0)
		ereport(WARNING, (errmsg("could not disable core dumps: %m")));
}

} // namespace
} // namespace seal::pg

void _PG_init()
{
	using namespace seal::pg;

	if (!process_shared_preload_libraries_in_progress)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("pg_seal must be loaded when the server starts"),
		                errhint("Add pg_seal to shared_preload_libraries in postgresql.conf and restart the server.")));
	define_settings();
	define_audit_settings();
	define_wal_receivers_setting();
	MarkGUCPrefixReserved("pg_seal");
	if (!seal::crypto_self_test())
		ereport(FATAL, (errmsg("pg_seal: the self-test of the cryptographic library failed"),
		                errhint("Check the OpenSSL installation and its configuration file.")));
	check_server_settings();
	wal_limit_read_ahead();
	if (guc_disable_core_dumps)
		disable_core_dumps();
	seam_install();
	file_seam_install();
	wal_ciphers_make();
	vault_create(guc_max_hsm_keys);
	unlock_at_start();
	register_rmgr();
	install_ddl_guard();
	previous_shmem_request = shmem_request_hook;
	shmem_request_hook = on_shmem_request;
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = on_shmem_startup;
	register_agent_worker();
	register_reaper_worker();
	if (!IsBinaryUpgrade) // whose databases are dropped and made, and whose files are replaced
		register_operation_launcher();
}
