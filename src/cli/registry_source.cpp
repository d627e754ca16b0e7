#include "registry_source.hpp"

#include "file_text.hpp"

#include "seal/wal_registry.hpp"

#include <libpq-fe.h>

#include <charconv>
#include <cstring>
#include <memory>

namespace seal::cli {

namespace {

using Connection = std::unique_ptr<PGconn, decltype(&PQfinish)>;
using Rows = std::unique_ptr<PGresult, decltype(&PQclear)>;

constexpr char kQuery[] =
	"SELECT seal.export_wal_keys(), (SELECT system_identifier FROM pg_catalog.pg_control_system())";

// The server's messages end in a line feed.
std::string message_of(const char* text)
{
	std::string message = text;
	while (!message.empty() && message.back() == '\n')
		message.pop_back();
	return message;
}

std::string hint_of(const PGresult* result)
{
	const char* state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const std::string code = state ? state : "";
	if (code == "42883" || code == "3F000") // undefined function or schema
		return "Name a database in which CREATE EXTENSION pg_seal has been run.";
	if (code == "42501")
		return "Connect as a superuser, or as a role with REPLICATION that has been granted EXECUTE on this function.";
	return "";
}

} // namespace

Result<Registry> registry_of_directory(const std::string& data_directory)
{
	Result<std::string> text = read_text_file(data_directory + "/" + kRegistryPath);
	if (!text)
		return text.error();
	return Registry::parse(*text);
}

Result<ServerRegistry> registry_of_server(const std::string& conninfo)
{
	const char* const names[] = {"application_name", "options", "client_encoding", "dbname", nullptr};
	const char* const values[] = {"pgseal exec", "-c search_path=pg_catalog", "UTF8", conninfo.c_str(), nullptr};
	const Connection connection(PQconnectdbParams(names, values, 1), PQfinish);
	if (PQstatus(connection.get()) != CONNECTION_OK)
		return Error(ErrorCode::io_error, message_of(PQerrorMessage(connection.get())), "Check what --from says.");
	const Rows rows(PQexec(connection.get(), kQuery), PQclear);
	if (PQresultStatus(rows.get()) != PGRES_TUPLES_OK || PQntuples(rows.get()) != 1)
		return Error(ErrorCode::io_error, "could not get the WAL keys: " + message_of(PQerrorMessage(connection.get())),
		             hint_of(rows.get()));
	Result<Registry> whole = Registry::parse(PQgetvalue(rows.get(), 0, 0));
	if (!whole)
		return Error(whole.error().code, "what the server sent for its WAL keys: " + whole.error().message);
	const char* system = PQgetvalue(rows.get(), 0, 1);
	std::uint64_t identifier = 0;
	const auto read = std::from_chars(system, system + std::strlen(system), identifier, 10);
	if (read.ec != std::errc() || *read.ptr != '\0' || identifier == 0)
		return Error(ErrorCode::corrupt, "the server sent no system identifier with its WAL keys");
	Result<Registry> stripped = without_provider_settings(*whole);
	if (!stripped)
		return stripped.error();
	return ServerRegistry{std::move(*stripped), identifier};
}

} // namespace seal::cli
