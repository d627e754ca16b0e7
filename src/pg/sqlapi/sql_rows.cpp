#include "sql_rows.hpp"

#include "../guard.hpp"
#include "sql_text.hpp"

extern "C" {
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
}

namespace seal::pg {

Rows::Rows(FunctionCallInfo fcinfo)
{
	pg_call([&] { InitMaterializedSRF(fcinfo, 0); });
	set_ = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
}

void Rows::add(Datum value, bool is_null)
{
	if (filled_ >= kMaxColumns || filled_ >= set_->setDesc->natts)
		fail(ERRCODE_INTERNAL_ERROR, "pg_seal's SQL definitions do not fit its library",
		     "Run ALTER EXTENSION pg_seal UPDATE.");
	values_[filled_] = value;
	nulls_[filled_++] = is_null;
}

Rows& Rows::null()
{
	add(0, true);
	return *this;
}

Rows& Rows::text(const std::string& utf8)
{
	const char* text = server_from_utf8(utf8);
	add(pg_call([&] { return CStringGetTextDatum(text); }));
	return *this;
}

Rows& Rows::name(const std::string& utf8)
{
	const char* text = server_from_utf8(utf8);
	add(pg_call([&] { return DirectFunctionCall1(namein, CStringGetDatum(text)); }));
	return *this;
}

Rows& Rows::json(const std::string& utf8)
{
	const char* text = server_from_utf8(utf8);
	add(pg_call([&] { return DirectFunctionCall1(jsonb_in, CStringGetDatum(text)); }));
	return *this;
}

Rows& Rows::integer(std::int32_t value)
{
	add(Int32GetDatum(value));
	return *this;
}

Rows& Rows::lsn_or_null(std::uint64_t value)
{
	if (value == 0)
		return null();
	add(UInt64GetDatum(value)); // LSNGetDatum
	return *this;
}

Rows& Rows::bigint(std::int64_t value)
{
	add(Int64GetDatum(value));
	return *this;
}

Rows& Rows::oid(Oid value)
{
	add(ObjectIdGetDatum(value));
	return *this;
}

Rows& Rows::real(double value)
{
	add(Float8GetDatum(value));
	return *this;
}

Rows& Rows::flag(bool value)
{
	add(BoolGetDatum(value));
	return *this;
}

Rows& Rows::time(std::int64_t unix_microseconds)
{
	constexpr std::int64_t kEpochs = (static_cast<std::int64_t>(POSTGRES_EPOCH_JDATE) - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	if (unix_microseconds == 0)
		return null();
	add(TimestampTzGetDatum(unix_microseconds - kEpochs));
	return *this;
}

Rows& Rows::interval(std::int64_t microseconds)
{
	add(pg_call([&] {
		auto* value = static_cast<Interval*>(palloc0(sizeof(Interval)));
		value->time = microseconds;
		return IntervalPGetDatum(value);
	}));
	return *this;
}

void Rows::end()
{
	if (filled_ != set_->setDesc->natts)
		fail(ERRCODE_INTERNAL_ERROR, "pg_seal's SQL definitions do not fit its library",
		     "Run ALTER EXTENSION pg_seal UPDATE.");
	pg_call([&] {
		tuplestore_putvalues(set_->setResult, set_->setDesc, values_, nulls_);
		CHECK_FOR_INTERRUPTS();
	});
	filled_ = 0;
}

} // namespace seal::pg
