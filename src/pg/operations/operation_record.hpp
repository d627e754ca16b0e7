// Operations in the registry: made, changed, finished, and what the audit log says of it. WAL-logged like everything there, so whoever is
// primary tomorrow goes on with them.
//
// Every change reads the newest record under the registry's lock, so that SQL functions and the launcher never undo each other's. All functions
// run in a transaction, throw SealError or PgError, and wake the launcher when it has something to do.
#pragma once

#include "../sqlapi/key_change.hpp"

#include <functional>
#include <optional>
#include <vector>

namespace seal::pg {

// WAL of one converted page: its full image, its record's header, and what changes of key records cost.
inline constexpr std::uint64_t kWalPerPage = 8300;

// What a policy asks for, its pages counted. Not registered.
OperationDef operation_for_policy(const TablespacePolicy& policy, const std::string& tablespace_name);

// Gives the operation its number, unless it has one of next_operation_id(), and its creation time; it is 'pending' when this returns the number.
// The caller audits it.
std::uint64_t operation_create(OperationDef def);

// A policy names its operation before that is registered. This registers those that a crash in between has lost.
void create_lost_operations();

// `change` returns false to leave the record as it is. Returns whether it was changed; false also when there is no such operation any more.
bool operation_change(std::uint64_t id, const std::function<bool(OperationDef&)>& change);

// The unfinished ones of a tablespace, or of all (InvalidOid), by number.
std::vector<OperationDef> unfinished_operations(const Registry& registry, Oid tablespace);

// The one that the launcher should run now: one that was cancelled half-way (leftover), or is running already (before a restart), else the oldest that is pending.
std::optional<OperationDef> operation_to_run(const Registry& registry);

// Ends every unfinished operation of a dropped tablespace.
void operations_of_dropped_tablespace(Oid tablespace);

// Recorded as done by the server itself; a failure to record is a WARNING in the server log.
void audit_operation(const char* event, const OperationDef& def, bool ok) noexcept;

} // namespace seal::pg
