#include "audit_event.hpp"

#include "../sqlapi/sql_text.hpp"

extern "C" {
#include "commands/dbcommands.h"
#include "common/ip.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
}

#include <netdb.h>

namespace seal::pg {

namespace {

// Plain data: filled by PostgreSQL calls that may raise.
struct Session {
	const char* actor;
	const char* role;
	const char* database;
	char client[NI_MAXHOST];
};

void note_session(Session* session)
{
	session->actor = GetUserNameFromId(GetSessionUserId(), false);
	session->role = GetUserNameFromId(GetUserId(), false);
	session->database = get_database_name(MyDatabaseId);
	session->client[0] = '\0';
	if (!MyProcPort || !MyBEEntry)
		return; // a background worker
	const SockAddr& client = MyBEEntry->st_clientaddr; // our own entry: nobody else writes it
	if (client.addr.ss_family == AF_UNIX)
		strlcpy(session->client, "[local]", sizeof session->client);
	else if (client.addr.ss_family == AF_INET || client.addr.ss_family == AF_INET6)
		pg_getnameinfo_all(&client.addr, client.salen, session->client, sizeof session->client, nullptr, 0, NI_NUMERICHOST);
}

} // namespace

AuditEvent::AuditEvent(const char* event, std::string object)
{
	Session session{};
	pg_call([&] { note_session(&session); });
	record.event = event;
	record.object = std::move(object);
	record.actor = utf8_from_server(session.actor);
	record.role = utf8_from_server(session.role);
	record.database = session.database ? utf8_from_server(session.database) : "";
	record.client = session.client;
	record.application = application_name ? utf8_from_server(application_name) : "";
}

void audit_succeeded(AuditEvent& event)
{
	event.record.result = "ok";
	event.record.detail = event.detail.str();
	try {
		audit_append(event.record);
	} catch (SealError& e) {
		throw SealError{Error(e.error.code, "the change was made, but it was not recorded in the audit log: " + e.error.message,
		                      "The change stands. Make the audit log writable, then note the change by hand.")};
	}
}

void audit_failed(AuditEvent& event, const std::string& why) noexcept
{
	constexpr std::size_t kMaxWhy = 2048;
	try {
		event.detail.text("error", why.size() > kMaxWhy ? why.substr(0, kMaxWhy) : why);
		event.record.result = "failed";
		event.record.detail = event.detail.str();
		audit_append(event.record);
	} catch (const SealError& e) {
		try {
			const char* message = e.error.message.c_str();
			pg_call([&] { ereport(WARNING, (errmsg("a failed call was not recorded in the audit log: %s", message))); });
		} catch (...) {
			// the call's own error is on its way
		}
	} catch (...) {
		// no memory: the call's own error is on its way
	}
}

} // namespace seal::pg
