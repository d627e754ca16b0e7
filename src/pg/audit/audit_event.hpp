// AuditEvent: one call of an SQL function on its way into the audit log.
//
// audited(event, change) runs `change` and then records how it ended. Order: the change is made, then it is recorded; the call
// returns only when the record is on disk. If the record cannot be written, the call fails and says that the change stands.
// What `change` throws is recorded as 'failed' and thrown on. Nothing after the change and before the record can be interrupted.
#pragma once

#include "audit_log.hpp"

#include "../guard.hpp"

namespace seal::pg {

struct AuditEvent {
	// Notes who calls: session user, role, client, application, database. In a transaction. Throws PgError.
	AuditEvent(const char* event, std::string object);

	AuditRecord record;
	AuditDetail detail; // `change` may add to it
};

void audit_succeeded(AuditEvent& event);                              // throws SealError
void audit_failed(AuditEvent& event, const std::string& why) noexcept; // a WARNING in the server log when it cannot be recorded

template <class F> void audited(AuditEvent& event, F&& change)
{
	try {
		change();
	} catch (const SealError& e) {
		audit_failed(event, e.error.message);
		throw;
	} catch (const PgError& e) {
		audit_failed(event, e.data->message ? e.data->message : "unknown error");
		throw;
	} catch (const std::bad_alloc&) {
		audit_failed(event, "out of memory");
		throw;
	}
	audit_succeeded(event);
}

} // namespace seal::pg
