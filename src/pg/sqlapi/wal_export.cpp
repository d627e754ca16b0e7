// seal.export_wal_keys(): the part of the registry that opening WAL takes, for a tool on a machine without the data directory.
//
// Everything secret in it is wrapped by the provider's KEK, as in the file; what it tells beyond that (names, the provider's settings) is what a base
// backup holds too, which every role with REPLICATION may take. So those roles and superusers may call it, if they have been granted EXECUTE.
// Works on a standby.
#include "../audit/audit_event.hpp"
#include "sql_entry.hpp"

#include "seal/wal_registry.hpp"

#include "../registry/registry_store.hpp"

extern "C" {
#include "miscadmin.h"
#include "utils/builtins.h"
}

namespace seal::pg {

namespace {

void refuse_others()
{
	if (pg_call([] { return superuser() || has_rolreplication(GetUserId()); }))
		return;
	fail(ERRCODE_INSUFFICIENT_PRIVILEGE, "permission denied to export WAL keys",
	     "The role must be a superuser or have the REPLICATION attribute.");
}

char* exported()
{
	refuse_others();
	char* text = nullptr;
	AuditEvent event("wal.export_keys", "WAL");
	audited(event, [&] {
		Result<Registry> part = wal_part(registry_read());
		if (!part)
			raise(part.error());
		const std::string file = part->serialise();
		if (file.empty())
			raise({ErrorCode::crypto_failure, "could not compute a digest"});
		event.detail.number("generations", static_cast<std::int64_t>(part->wal_keys().keys.size()));
		text = server_from_utf8(file);
	});
	return text;
}

} // namespace

extern "C" {
PG_FUNCTION_INFO_V1(pg_seal_export_wal_keys);

PGDLLEXPORT Datum pg_seal_export_wal_keys(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	return sql_entry([&] {
		char* const text = exported();
		return pg_call([&] { return CStringGetTextDatum(text); });
	});
}
}

} // namespace seal::pg
