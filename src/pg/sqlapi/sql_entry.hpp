// sql_entry(fn): pg_entry for SQL functions. Errors of the core are UTF-8 (they hold names from the registry); here they become the
// text of the database's encoding.
#pragma once

#include "../guard.hpp"
#include "sql_text.hpp"

namespace seal::pg {

template <class F> auto sql_entry(F&& fn)
{
	return pg_entry([&]() -> std::invoke_result_t<F> {
		try {
			return fn();
		} catch (const SealError& e) {
			fail(sqlstate_of(e.error.code), e.error.message, e.error.hint.empty() ? nullptr : e.error.hint.c_str());
		}
	});
}

} // namespace seal::pg
