#include "sql_text.hpp"

#include "../guard.hpp"

extern "C" {
#include "mb/pg_wchar.h"
}

namespace seal::pg {

std::string utf8_from_server(const char* text)
{
	const char* converted = pg_call([&] {
		if (!OidIsValid(MyDatabaseId))
			return text;
		return static_cast<const char*>(pg_server_to_any(text, static_cast<int>(strlen(text)), PG_UTF8));
	});
	return converted;
}

char* server_from_utf8(const std::string& text)
{
	const char* from = text.c_str();
	const int size = static_cast<int>(text.size());
	return pg_call([&] {
		char* converted = OidIsValid(MyDatabaseId) ? pg_any_to_server(from, size, PG_UTF8) : const_cast<char*>(from);
		return converted == from ? pstrdup(from) : converted;
	});
}

void fail(int sqlstate, const std::string& message, const char* hint)
{
	const char* text = server_from_utf8(message);
	const char* more = hint ? server_from_utf8(hint) : nullptr;
	pg_call([&] { ereport(ERROR, (errcode(sqlstate), errmsg("%s", text), more ? errhint("%s", more) : 0)); });
	pg_unreachable();
}

void notify(int level, const std::string& message, const std::string& hint)
{
	const char* text = server_from_utf8(message);
	const char* more = hint.empty() ? nullptr : server_from_utf8(hint);
	pg_call([&] { ereport(level, (errmsg("%s", text), more ? errhint("%s", more) : 0)); });
}

std::string lsn_text(std::uint64_t lsn)
{
	char text[32];
	snprintf(text, sizeof text, "%X/%X", static_cast<unsigned>(lsn >> 32), static_cast<unsigned>(lsn));
	return text;
}

} // namespace seal::pg
