// The two bridges between PostgreSQL's longjmp errors and C++ exceptions. There is no third way.
//
//   pg_entry(fn)  around every function that PostgreSQL calls (SQL function, hook, callback, worker main): no C++ exception
//                 leaves it; each becomes an ereport(ERROR), raised when every C++ frame has been unwound.
//   pg_call(fn)   around a PostgreSQL call that may raise, made from a frame with non-trivial destructors: the error becomes
//                 a PgError exception, with the interrupt holdoff counters, memory context and error stacks put back, so
//                 that destructors (LWLock guards too) run in the state they expect.
//
// The function given to pg_call must not itself throw. Frames that hold only trivially destructible locals may call PostgreSQL directly: a longjmp through them is harmless.
#pragma once

#include "pg.hpp"

#include "seal/error.hpp"

extern "C" {
#include "utils/memutils.h"
}

#include <exception>
#include <new>
#include <type_traits>
#include <utility>

namespace seal::pg {

// An ERROR of PostgreSQL on its way through C++ frames. Owns nothing: ErrorData lives in a memory context.
struct PgError {
	ErrorData* data;
};
// An error of the core on its way to pg_entry.
struct SealError {
	Error error;
};

[[noreturn]] inline void raise(Error error) { throw SealError{std::move(error)}; }

// SQLSTATE of a core error: the one table.
int sqlstate_of(ErrorCode code) noexcept;

namespace detail {
// What pg_entry raises after its try block. Plain data: message and hint are palloc'd copies.
struct Pending {
	enum Kind { none, postgres, core, no_memory, unknown } kind = none;
	ErrorData* data = nullptr;
	int sqlstate = 0;
	const char* message = nullptr;
	const char* hint = nullptr;
};
void capture_core(Pending& pending, const Error& error) noexcept;
void capture_unknown(Pending& pending, const char* what) noexcept;
[[noreturn]] void raise_pending(const Pending& pending);
} // namespace detail

template <class F> auto pg_entry(F&& fn) -> std::invoke_result_t<F>
{
	using R = std::invoke_result_t<F>;
	static_assert(std::is_void_v<R> || std::is_trivially_destructible_v<R>);
	detail::Pending pending;
	try {
		return std::forward<F>(fn)();
	} catch (const PgError& e) {
		pending.kind = detail::Pending::postgres;
		pending.data = e.data;
	} catch (const SealError& e) {
		detail::capture_core(pending, e.error);
	} catch (const std::bad_alloc&) {
		pending.kind = detail::Pending::no_memory;
	} catch (const std::exception& e) {
		detail::capture_unknown(pending, e.what());
	} catch (...) {
		detail::capture_unknown(pending, nullptr);
	}
	detail::raise_pending(pending);
}

template <class F> auto pg_call(F&& fn) -> std::invoke_result_t<F>
{
	using R = std::invoke_result_t<F>;
	sigjmp_buf* const saved_exceptions = PG_exception_stack;
	ErrorContextCallback* const saved_contexts = error_context_stack;
	const MemoryContext saved_memory = CurrentMemoryContext;
	const uint32 saved_holdoff = InterruptHoldoffCount;
	const uint32 saved_cancel = QueryCancelHoldoffCount;
	sigjmp_buf here;

	if (sigsetjmp(here, 0) == 0) {
		PG_exception_stack = &here;
		if constexpr (std::is_void_v<R>) {
			fn();
			PG_exception_stack = saved_exceptions;
			error_context_stack = saved_contexts;
			return;
		} else {
			static_assert(std::is_trivially_destructible_v<R>);
			R result = fn();
			PG_exception_stack = saved_exceptions;
			error_context_stack = saved_contexts;
			return result;
		}
	}
	PG_exception_stack = saved_exceptions;
	error_context_stack = saved_contexts;
	InterruptHoldoffCount = saved_holdoff;
	QueryCancelHoldoffCount = saved_cancel;
	MemoryContextSwitchTo(saved_memory == ErrorContext ? TopMemoryContext : saved_memory);
	ErrorData* data = CopyErrorData();
	FlushErrorState();
	throw PgError{data};
}

} // namespace seal::pg
