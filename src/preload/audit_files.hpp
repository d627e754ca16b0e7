// The audit log of the server that pg_rewind rewinds: it is that node's own, so whatever pg_rewind would do to it is not done.
//
// pg_rewind makes every file of the target that is no relation the same as the source's, and removes those that the source lacks. A file of
// pg_seal/audit that it opens to write becomes /dev/null; one that it removes stays.
#pragma once

namespace seal::preload {

bool is_own_audit_path(
	const char* path) noexcept; // pg_seal/audit of the data directory that the keys are of, or something in it

} // namespace seal::preload
