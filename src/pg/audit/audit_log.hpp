// The audit log of this node: lines of JSON (seal/audit.hpp) in numbered segments of about 16 MiB, appended only, each line on
// disk before audit_append() returns. It is not WAL-logged and not undone by ROLLBACK: it tells what was done on this node.
//
// A line that a crash cut short is ended by the next append and shown as unreadable; a full disk leaves no part of a line.
// Appending and reading need no database and no transaction, but shared memory: any process after shmem_startup.
#pragma once

#include "../pg.hpp"

#include "seal/audit.hpp"

#include <functional>

namespace seal::pg {

extern char* guc_audit_directory; // pg_seal.audit_directory, PGC_POSTMASTER; empty: pg_seal/audit in the data directory

void define_audit_settings(); // called by define_settings()

// Gives the record its number and time and appends it under Lock::audit. Throws SealError (io_error) when it is not on disk.
void audit_append(AuditRecord record);

// Every record, oldest first; or those of the last few segments only (0: of all). `segment` is a file's name; `readable` false: the record holds only what the place tells.
// The visitor may throw. Throws SealError (io_error).
using AuditVisitor = std::function<void(const AuditRecord& record, const std::string& segment, bool readable)>;
void audit_read(const AuditVisitor& visit, unsigned last_segments = 0);

std::string audit_directory(); // as configured, or the default

} // namespace seal::pg
