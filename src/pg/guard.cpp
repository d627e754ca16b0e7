#include "guard.hpp"

namespace seal::pg {

int sqlstate_of(ErrorCode code) noexcept
{
	switch (code) {
	case ErrorCode::invalid_argument: return ERRCODE_INVALID_PARAMETER_VALUE;
	case ErrorCode::not_found: return ERRCODE_UNDEFINED_OBJECT;
	case ErrorCode::corrupt: return ERRCODE_DATA_CORRUPTED;
	case ErrorCode::authentication_failed: return ERRCODE_DATA_CORRUPTED;
	case ErrorCode::crypto_failure: return ERRCODE_EXTERNAL_ROUTINE_EXCEPTION;
	case ErrorCode::io_error: return ERRCODE_IO_ERROR;
	case ErrorCode::timeout: return ERRCODE_CONNECTION_FAILURE;
	case ErrorCode::protocol: return ERRCODE_PROTOCOL_VIOLATION;
	case ErrorCode::provider_unreachable: return ERRCODE_CONNECTION_FAILURE;
	case ErrorCode::pin_incorrect: return ERRCODE_INVALID_PASSWORD;
	case ErrorCode::key_missing: return ERRCODE_UNDEFINED_OBJECT;
	case ErrorCode::key_unfit: return ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
	case ErrorCode::key_mismatch: return ERRCODE_DATA_CORRUPTED;
	case ErrorCode::unsupported: return ERRCODE_FEATURE_NOT_SUPPORTED;
	case ErrorCode::already_exists: return ERRCODE_DUPLICATE_OBJECT;
	}
	return ERRCODE_INTERNAL_ERROR;
}

namespace detail {

namespace {
// Copies without raising: an allocation failure leaves a fixed text.
const char* copy_text(const char* text) noexcept
{
	const std::size_t size = strlen(text) + 1;
	char* copy = static_cast<char*>(MemoryContextAllocExtended(ErrorContext, size, MCXT_ALLOC_NO_OOM));
	return copy ? static_cast<const char*>(memcpy(copy, text, size)) : "out of memory";
}
} // namespace

void capture_core(Pending& pending, const Error& error) noexcept
{
	pending.kind = Pending::core;
	pending.sqlstate = sqlstate_of(error.code);
	pending.message = copy_text(error.message.c_str());
	pending.hint = error.hint.empty() ? nullptr : copy_text(error.hint.c_str());
}

void capture_unknown(Pending& pending, const char* what) noexcept
{
	pending.kind = Pending::unknown;
	pending.message = what ? copy_text(what) : nullptr;
}

void raise_pending(const Pending& pending)
{
	switch (pending.kind) {
	case Pending::postgres: ReThrowError(pending.data);
	case Pending::core:
		ereport(ERROR, (errcode(pending.sqlstate), errmsg("%s", pending.message),
		                pending.hint ? errhint("%s", pending.hint) : 0));
		break;
	case Pending::no_memory: ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"))); break;
	default:
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
		                errmsg("unexpected failure inside pg_seal: %s", pending.message ? pending.message : "unknown")));
	}
	pg_unreachable();
}

} // namespace detail
} // namespace seal::pg
