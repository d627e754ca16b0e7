// Rows: the result of a set-returning function, built value by value from C++ and stored in the executor's tuplestore.
//
// The row type is the function's own (OUT arguments): values are given in their order, each with the type that the column has.
// All members may throw PgError.
#pragma once

#include "../pg.hpp"

extern "C" {
#include "fmgr.h"
#include "nodes/execnodes.h"
}

#include <cstdint>
#include <string>

namespace seal::pg {

class Rows {
public:
	explicit Rows(FunctionCallInfo fcinfo); // raises when called where a set is not accepted

	Rows& null();
	Rows& text(const std::string& utf8);
	Rows& text_or_null(const std::string& utf8) { return utf8.empty() ? null() : text(utf8); }
	Rows& name(const std::string& utf8);           // type name
	Rows& name_or_null(const std::string& utf8) { return utf8.empty() ? null() : name(utf8); }
	Rows& json(const std::string& utf8);           // type jsonb
	Rows& integer(std::int32_t value);
	Rows& bigint(std::int64_t value);
	Rows& oid(Oid value);
	Rows& real(double value);
	Rows& flag(bool value);
	Rows& lsn_or_null(std::uint64_t value);        // type pg_lsn; 0 is NULL
	Rows& time(std::int64_t unix_microseconds);    // timestamptz; 0 is NULL
	Rows& interval(std::int64_t microseconds);     // type interval
	void end();                                    // stores the row

private:
	void add(Datum value, bool is_null = false);

	static constexpr int kMaxColumns = 24;
	ReturnSetInfo* set_;
	Datum values_[kMaxColumns];
	bool nulls_[kMaxColumns];
	int filled_ = 0;
};

} // namespace seal::pg
