#include "sql_args.hpp"

#include "../guard.hpp"
#include "sql_text.hpp"

#include "seal/audit.hpp"

extern "C" {
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
}

namespace seal::pg {

namespace {

// An object's text goes whole into WAL, the registry and the audit log.
constexpr std::size_t kMaxJson = 16 * 1024;

void need(FunctionCallInfo fcinfo, int index, const char* argument)
{
	if (PG_ARGISNULL(index))
		fail(ERRCODE_NULL_VALUE_NOT_ALLOWED, std::string("argument \"") + argument + "\" must not be null");
}

} // namespace

std::string text_arg(FunctionCallInfo fcinfo, int index, const char* argument)
{
	need(fcinfo, index, argument);
	const Datum value = fcinfo->args[index].value;
	std::string utf8 = utf8_from_server(pg_call([&] { return static_cast<const char*>(TextDatumGetCString(value)); }));
	const char* bytes = utf8.c_str(); // a SQL_ASCII database accepts any bytes
	const int size = static_cast<int>(utf8.size());
	if (!pg_call([&] { return pg_verify_mbstr(PG_UTF8, bytes, size, true); }))
		raise(Error(ErrorCode::invalid_argument, std::string("argument \"") + argument + "\" is not valid UTF-8"));
	return utf8;
}

std::string name_arg(FunctionCallInfo fcinfo, int index, const char* argument)
{
	std::string name = text_arg(fcinfo, index, argument);
	bool fit = !name.empty() && name.size() < NAMEDATALEN && name.front() != ' ' && name.back() != ' ';
	for (const char c : name)
		fit = fit && static_cast<unsigned char>(c) >= 0x20 && c != 0x7f;
	if (!fit)
		raise(Error(ErrorCode::invalid_argument, std::string("argument \"") + argument + "\" is not a valid name",
		            "A name has 1 to 63 bytes, no control character, and no space at either end."));
	return name;
}

std::string jsonb_object_arg(FunctionCallInfo fcinfo, int index, const char* argument)
{
	need(fcinfo, index, argument);
	const Datum value = fcinfo->args[index].value;
	const char* text = pg_call([&] {
		Jsonb* object = DatumGetJsonbP(value);
		return JB_ROOT_IS_OBJECT(object) ? static_cast<const char*>(JsonbToCString(nullptr, &object->root, VARSIZE(object)))
		                                 : nullptr;
	});
	if (!text)
		raise(Error(ErrorCode::invalid_argument, std::string("argument \"") + argument + "\" is not a JSON object"));
	std::string json = utf8_from_server(text);
	if (json.size() > kMaxJson || !json_nesting_at_most(json, kMaxJsonNesting))
		raise(Error(ErrorCode::invalid_argument, std::string("argument \"") + argument + "\" is too large",
		            "It may have 16 kB of text and 64 levels."));
	return json;
}

bool bool_arg(FunctionCallInfo fcinfo, int index, const char* argument)
{
	need(fcinfo, index, argument);
	return DatumGetBool(fcinfo->args[index].value);
}

std::int64_t bigint_arg(FunctionCallInfo fcinfo, int index, const char* argument)
{
	need(fcinfo, index, argument);
	return DatumGetInt64(fcinfo->args[index].value);
}

const char* catalog_name_arg(FunctionCallInfo fcinfo, int index, const char* argument)
{
	need(fcinfo, index, argument);
	return NameStr(*DatumGetName(fcinfo->args[index].value));
}

Oid oid_arg(FunctionCallInfo fcinfo, int index, const char* argument)
{
	need(fcinfo, index, argument);
	return DatumGetObjectId(fcinfo->args[index].value);
}

} // namespace seal::pg
