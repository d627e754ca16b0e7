// The function under the view seal.health: one row per check, with a status, what was found, and what to do about it.
//
// Nothing here asks a provider: a health view must answer when the provider does not. A provider's row tells what the audit log
// knows of its last check; seal.check_provider() asks it now.
#include "../agent_client/agent_client.hpp"
#include "../audit/audit_log.hpp"
#include "../files/file_seam.hpp"
#include "../guard.hpp"
#include "../guc.hpp"
#include "../keymap/key_index.hpp"
#include "../operations/operation_board.hpp"
#include "../operations/operation_record.hpp"
#include "../registry/registry_store.hpp"
#include "../storage/seam.hpp"
#include "../vault/vault.hpp"
#include "key_census.hpp"
#include "key_change.hpp"
#include "sql_entry.hpp"
#include "sql_rows.hpp"
#include "sql_text.hpp"

extern "C" {
#include "access/xlog.h"
#include "storage/dsm_impl.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"
}

#include <map>
#include <sys/resource.h>

namespace seal::pg {

namespace {

enum class Verdict { ok, info, warning, error };

class Checks {
public:
	explicit Checks(Rows& rows) : rows_(rows) {}
	void add(const std::string& name, Verdict verdict, const std::string& detail, const std::string& hint = {})
	{
		constexpr const char* kNames[] = {"ok", "info", "warning", "error"};
		rows_.text(name).text(kNames[static_cast<int>(verdict)]).text(detail).text_or_null(hint).end();
	}

private:
	Rows& rows_;
};

std::string time_text(TimestampTz at)
{
	return utf8_from_server(pg_call([&] { return static_cast<const char*>(pstrdup(timestamptz_to_str(at))); }));
}

void check_seam(Checks& checks)
{
	checks.add("library", Verdict::ok, "loaded when the server started"); // it refuses to be loaded later
	if (seam_installed())
		checks.add("storage seam", Verdict::ok, seam_summary());
	else
		checks.add("storage seam", Verdict::error, "not installed: nothing is sealed or opened", "Restart the server and read its log.");
	if (file_seam_installed())
		checks.add("file seam", Verdict::ok, file_seam_summary());
	else
		checks.add("file seam", Verdict::error, "not installed: WAL, temporary and spill files are written in clear",
		           "Restart the server and read its log.");
}

void check_agent(Checks& checks)
{
	const AgentHealth agent = agent_health();
	if (!agent.worker_running)
		checks.add("key agent worker", Verdict::error, "not running",
		           "It is restarted by itself; read the server log for \"pg_seal agent\". Running relations are not affected.");
	else
		checks.add("key agent worker", Verdict::ok, "process " + std::to_string(agent.worker_pid));
	const std::string use = "started " + std::to_string(agent.agent_starts) + " times, " + std::to_string(agent.requests) +
	                        " requests, " + std::to_string(agent.failures) + " failures";
	if (agent.agent_running)
		checks.add("key agent", Verdict::ok, "process " + std::to_string(agent.agent_pid) + ", " + use);
	else // it is started when somebody needs it
		checks.add("key agent", agent.last_error[0] ? Verdict::warning : Verdict::info, "not running; " + use,
		           "It is started for the next request to a provider.");
	if (agent.last_error[0])
		checks.add("key agent, last error", Verdict::info, time_text(agent.last_error_at) + ": " + agent.last_error);
}

void check_providers(Checks& checks, const Registry& registry)
{
	struct Known {
		std::string what;
		bool reachable = false;
	};
	constexpr unsigned kSegmentsLookedAt = 2; // this view is polled: its cost must not grow with the log
	std::map<std::string, Known> known;
	audit_read([&](const AuditRecord& record, const std::string&, bool readable) {
		if (!readable || record.event.rfind("provider.", 0) != 0)
			return;
		// "reachable" is in the detail of every event that asked the provider.
		const bool yes = record.detail.find("\"reachable\":true") != std::string::npos;
		const bool no = record.detail.find("\"reachable\":false") != std::string::npos;
		if (yes || no)
			known[record.object] = {audit_time_text(record.at), yes};
	}, kSegmentsLookedAt);
	for (const ProviderDef& provider : registry.providers()) {
		const auto found = known.find(provider.name);
		const std::string ask = "SELECT * FROM seal.check_provider('" + provider.name + "') asks it now.";
		if (found == known.end())
			checks.add("provider " + provider.name, Verdict::info, "not checked on this server yet", ask);
		else if (found->second.reachable)
			checks.add("provider " + provider.name, Verdict::ok, "answered at " + found->second.what);
		else
			checks.add("provider " + provider.name, Verdict::warning, "could not be used at " + found->second.what, ask);
	}
}

void check_keyrings(Checks& checks, const Registry& registry)
{
	for (const KeyringDef& keyring : registry.keyrings()) {
		std::size_t missing = 0;
		for (const KeyringKey& key : keyring.keys) {
			uint8 bytes[kKeyringKeySize];
			missing += !vault_get_keyring_key(keyring.id, key.version, bytes);
			wipe(bytes, sizeof bytes);
		}
		std::string detail = std::to_string(keyring.keys.size() - missing) + " of " + std::to_string(keyring.keys.size()) +
		                     " key versions unlocked";
		if (keyring.protection == "hsm")
			detail += ", " + std::to_string(vault_pool_count(keyring.id)) + " wrapped DEKs in store";
		if (missing > 0)
			checks.add("keyring " + keyring.name, Verdict::error, detail,
			           "Check its provider with seal.check_provider('" + keyring.provider() + "').");
		else
			checks.add("keyring " + keyring.name, Verdict::ok, detail);
	}
	if (registry.keyrings().empty())
		checks.add("keyrings", Verdict::info, "none exists", "Create one with seal.create_keyring().");
}

void check_memory(Checks& checks)
{
	if (vault_locked_in_memory())
		checks.add("vault", Verdict::ok, "unlocked keys are locked in memory and left out of core dumps");
	else
		checks.add("vault", Verdict::warning, "unlocked keys may be written to swap",
		           "Raise the limit of locked memory (LimitMEMLOCK of the service) or encrypt the swap.");
	rlimit limit;
	const bool dumps = getrlimit(RLIMIT_CORE, &limit) != 0 || limit.rlim_max != 0;
	if (guc_disable_core_dumps || !dumps)
		checks.add("core dumps", Verdict::ok, "disabled");
	else
		checks.add("core dumps", Verdict::info, "possible; they leave out the vault, but a process's heap holds working keys",
		           "Set pg_seal.disable_core_dumps = on.");
}

void check_key_files(Checks& checks)
{
	const KeyIndexUse use = key_index_use();
	const std::string detail = std::to_string(use.entries) + " of " + std::to_string(use.capacity) + " entries, " +
	                           std::to_string(use.databases) + " databases";
	if (use.overflowed > 0)
		checks.add("key index", Verdict::warning, detail + ", " + std::to_string(use.overflowed) + " of them too large for it",
		           "Raise pg_seal.max_relations: lookups read the key file meanwhile.");
	else
		checks.add("key index", Verdict::ok, detail);

	const TombstoneCount tombstones = pg_call([] { return count_tombstones(); });
	std::string waiting = std::to_string(tombstones.waiting) + " keys of dropped relations wait to be wiped";
	if (tombstones.waiting > 0 && tombstones.oldest_at != 0)
		waiting += ", the oldest since " + audit_time_text(static_cast<std::int64_t>(tombstones.oldest_at) * 1000000);
	checks.add("tombstones", Verdict::ok, waiting);
}

void check_wal(Checks& checks, const Registry& registry)
{
	const WalKeysDef keys = registry.wal_keys();
	std::size_t missing = 0;
	for (const WalKeyDef& key : keys.keys)
		missing += vault_wal_generation(static_cast<uint16>(key.generation % kWalGenerations)) != key.generation;
	if (missing > 0)
		checks.add("WAL keys", Verdict::error, std::to_string(missing) + " of " + std::to_string(keys.keys.size()) + " are not unlocked",
		           "WAL under them cannot be read or written here; check their keyring's provider.");
	const bool anything_sealed = !registry.tablespaces().empty();
	if (keys.active != 0)
		checks.add("WAL", Verdict::ok, "sealed with generation " + std::to_string(keys.active) + " of the WAL key");
	else
		checks.add("WAL", anything_sealed ? Verdict::warning : Verdict::info, "written in clear: what is sealed on disk can be read there and in archives",
		           "Call seal.enable_wal_encryption().");
}

// Is a library in shared_preload_libraries? By name: its settings may be in postgresql.conf without it.
bool is_preloaded(const char* library)
{
	char* text = pstrdup(shared_preload_libraries_string ? shared_preload_libraries_string : "");
	List* names = NIL;
	bool found = false;
	if (SplitDirectoriesString(text, ',', &names)) {
		ListCell* cell;
		foreach (cell, names) {
			const char* const name = static_cast<const char*>(lfirst(cell));
			const char* const slash = strrchr(name, '/');
			const char* const base = slash ? slash + 1 : name;
			const size_t size = strlen(library);
			found = found || (strncmp(base, library, size) == 0 && (base[size] == '\0' || strcmp(base + size, ".so") == 0));
		}
	}
	return found;
}

void check_temp_files(Checks& checks)
{
	if (guc_encrypt_temp_files)
		checks.add("temporary files", Verdict::ok, "temporary, spill and NOTIFY files are sealed with a key of this server start");
	else
		checks.add("temporary files", Verdict::warning, "temporary, spill and NOTIFY files are written in clear",
		           "Set pg_seal.encrypt_temp_files = on and restart.");
	if (pg_call([] { return is_preloaded("pg_stat_statements"); }))
		checks.add("pg_stat_statements", Verdict::warning,
		           "texts of statements, with the constants of utility statements, lie in clear in pg_stat_tmp and pg_stat",
		           "Remove it from shared_preload_libraries, or put the data directory on an encrypted volume.");
}

void check_settings(Checks& checks)
{
	if (dynamic_shared_memory_type == DSM_IMPL_MMAP)
		checks.add("dynamic_shared_memory_type", Verdict::error, "mmap writes tuples of parallel queries to files in clear",
		           "Set dynamic_shared_memory_type = posix and restart.");
	else
		checks.add("dynamic_shared_memory_type", Verdict::ok, "no files in the data directory");
	if (DataChecksumsEnabled())
		checks.add("data_checksums", Verdict::ok, "on");
	else
		checks.add("data_checksums", Verdict::warning, "off: damage to a sealed page shows as garbage, not as an error",
		           "Enable them with pg_checksums --enable while the server is stopped.");
}

void check_launcher(Checks& checks)
{
	if (RecoveryInProgress())
		checks.add("operations worker", Verdict::info, "runs on the primary server only");
	else if (operation_launcher_runs())
		checks.add("operations worker", Verdict::ok, "running");
	else
		checks.add("operations worker", Verdict::error, "not running: no operation begins", kNoLauncherHint);
}

// Those that have not ended, and tablespaces whose last operation did not do what it was to do.
void check_operations(Checks& checks, const Registry& registry)
{
	std::map<std::uint32_t, OperationDef> last;
	for (const OperationDef& def : registry.operations()) {
		last[def.tablespace] = def;
		if (!def.finished())
			checks.add("operation " + std::to_string(def.id), def.state == "paused" ? Verdict::warning : Verdict::info,
			           def.kind + " tablespace \"" + def.target + "\": " + def.state + (def.detail.empty() ? "" : ", " + def.detail),
			           def.state == "paused" ? "seal.resume_operation(" + std::to_string(def.id) + ") lets it go on." : "");
	}
	for (const TablespacePolicy& policy : registry.tablespaces()) { // a dropped one has none
		const auto found = last.find(policy.tablespace);
		if (found == last.end() || (found->second.state != "failed" && found->second.state != "cancelled"))
			continue;
		const OperationDef& def = found->second;
		checks.add("tablespace " + def.target, Verdict::warning,
		           "the last operation (" + def.kind + ", number " + std::to_string(def.id) + ") " +
		               (def.state == "failed" ? "failed: " : "was cancelled: ") + def.detail,
		           "Relations may be left as they were: seal.relations tells. Repeat the call to go on with what is left.");
	}
}

void check_requirement(Checks& checks)
{
	if (guc_require_encryption == require_on)
		checks.add("require_encryption", Verdict::ok, "on: nothing is created in clear" +
		                                                  (guc_plain_tablespaces[0] ? std::string(", except in ") + utf8_from_server(guc_plain_tablespaces) : ""));
	else
		checks.add("require_encryption", Verdict::info,
		           guc_require_encryption == require_warn ? "warn: relations may be created in clear, with a warning"
		                                                  : "off: relations may be created in clear in tablespaces that are not sealed",
		           "Set pg_seal.require_encryption = on when everything is to be sealed.");
}

void health_rows(Rows& rows)
{
	Checks checks(rows);
	const Registry registry = registry_read();
	check_seam(checks);
	check_agent(checks);
	check_providers(checks, registry);
	check_keyrings(checks, registry);
	check_memory(checks);
	check_key_files(checks);
	check_launcher(checks);
	check_operations(checks, registry);
	check_requirement(checks);
	check_wal(checks, registry);
	check_temp_files(checks);
	check_settings(checks);
}

} // namespace

extern "C" {
PG_FUNCTION_INFO_V1(pg_seal_health);

PGDLLEXPORT Datum pg_seal_health(PG_FUNCTION_ARGS)
{
	return sql_entry([&] {
		Rows rows(fcinfo);
		health_rows(rows);
		return Datum{0};
	});
}
}

} // namespace seal::pg
