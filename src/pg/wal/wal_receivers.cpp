#include "wal_receivers.hpp"

#include "../audit/audit_log.hpp"
#include "../guard.hpp"
#include "../registry/registry_store.hpp"
#include "../vault/vault.hpp"

extern "C" {
#include "common/ip.h"
#include "miscadmin.h"
#include "replication/slot.h"
#include "replication/walsender.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/varlena.h"
}

#include <netdb.h>
#include <string>

namespace seal::pg {

namespace {

char* guc_wal_receivers;

bool check_list(char** value, void**, GucSource)
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

// By role, or by the name that the application gives itself (which proves nothing: for telling one's own tools apart).
bool allowed(const char* role, const char* application)
{
	char* text = pstrdup(guc_wal_receivers);
	List* names = NIL;
	bool found = false;
	if (SplitIdentifierString(text, ',', &names)) {
		ListCell* cell;
		foreach (cell, names) {
			const char* const name = static_cast<const char*>(lfirst(cell));
			found = found || strcmp(name, "*") == 0 || strcmp(name, role) == 0 || strcmp(name, application) == 0;
		}
	}
	list_free(names);
	pfree(text);
	return found;
}

struct Receiver {
	char role[NAMEDATALEN], client[NI_MAXHOST];
};

// The role's name as the session keeps it: a catalog would want a transaction, which a walsender does not have or is in the middle of.
void note_receiver(Receiver* receiver)
{
	strlcpy(receiver->role, GetConfigOption("session_authorization", false, false), sizeof receiver->role);
	strlcpy(receiver->client, "[local]", sizeof receiver->client);
	const SockAddr& client = MyBEEntry->st_clientaddr; // our own entry: nobody else writes it
	if (client.addr.ss_family == AF_INET || client.addr.ss_family == AF_INET6)
		pg_getnameinfo_all(&client.addr, client.salen, receiver->client, sizeof receiver->client, nullptr, 0, NI_NUMERICHOST);
}

void record(const char* role, const char* application, const char* client, bool may) noexcept
{
	try {
		AuditRecord record;
		record.event = "wal.stream";
		record.object = "WAL";
		record.actor = role;
		record.role = role;
		record.application = application;
		record.client = client;
		record.result = may ? "ok" : "denied";
		AuditDetail detail;
		detail.flag("in_clear", true);
		record.detail = detail.str();
		audit_append(record);
	} catch (const SealError& e) {
		char message[512];
		strlcpy(message, e.error.message.c_str(), sizeof message);
		ereport(WARNING, (errmsg("streaming of WAL was not recorded in the audit log: %s", message)));
	} catch (...) {
		ereport(WARNING, (errmsg("streaming of WAL was not recorded in the audit log")));
	}
}

} // namespace

void define_wal_receivers_setting()
{
	DefineCustomStringVariable("pg_seal.wal_receivers", "Who may receive sealed WAL in clear over a replication connection.",
	                           "Names of roles or applications; * allows every role that may replicate, with a warning.",
	                           &guc_wal_receivers, "*", PGC_SIGHUP, GUC_LIST_INPUT, check_list, nullptr, nullptr);
}

void wal_receiver_check()
{
	static bool checked = false; // for this connection
	if (checked || !am_walsender || !MyBEEntry || (wal_active_generation() == 0 && !vault_any_wal_key()))
		return;
	if (MyReplicationSlot && SlotIsLogical(MyReplicationSlot))
		return; // hands out rows, by the rights of the publication or the output plugin
	static Receiver receiver;
	note_receiver(&receiver);
	const char* const role = receiver.role;
	const char* const application = application_name ? application_name : "";
	const bool may = allowed(role, application);
	checked = may;
	record(role, application, receiver.client, may);
	if (!may)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		                errmsg("role \"%s\" (application \"%s\") may not receive sealed WAL in clear", role, application),
		                errhint("Add it to pg_seal.wal_receivers if what it receives is sealed where it is stored: a standby with pg_seal, or a "
		                        "tool run by \"pgseal exec\".")));
	ereport(LOG, (errmsg("WAL goes in clear to role \"%s\", application \"%s\", client %s", role, application, receiver.client),
	              errhint("A standby with pg_seal seals what it receives; run other receivers by \"pgseal exec\". pg_seal.wal_receivers says "
	                      "who may.")));
}

} // namespace seal::pg
