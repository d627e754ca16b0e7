// pgseal status: what a running server says about its seals: health, providers, keyrings, tablespaces.
//
// Reads the views of schema seal through libpq; asks no provider and changes nothing. A password comes from libpq's
// own places (~/.pgpass, PGPASSWORD, a service file), never from an option.
#include "command.hpp"
#include "text_table.hpp"

#include <libpq-fe.h>

#include <cstdio>
#include <memory>

namespace seal::cli {

namespace {

using Connection = std::unique_ptr<PGconn, decltype(&PQfinish)>;
using Rows = std::unique_ptr<PGresult, decltype(&PQclear)>;

struct StatusOptions {
	std::string conninfo, host, port, user, database;
};

struct Section {
	const char* title;
	const char* query;
};

constexpr Section kHealth = {"Health", "SELECT check_name AS check, status, detail, hint FROM seal.health"};
constexpr Section kSections[] = {
	{"Providers", "SELECT provider, kind, keyrings FROM seal.providers ORDER BY provider"},
	{"Keyrings",
     "SELECT keyring, provider, kek, kek_version AS \"kek version\", protection, state, unlocked FROM seal.keyrings "
     "ORDER BY keyring"},
	{"Tablespaces", "SELECT tablespace, sealed, keyring, cipher, since::timestamptz(0) AS since FROM seal.tablespaces "
                    "ORDER BY tablespace"},
};

Connection connect(const StatusOptions& options)
{
	const char* const names[] = {"application_name", "dbname", "host", "port", "user", "options", nullptr};
	const std::string& database =
		options.conninfo.empty() ? options.database : options.conninfo; // expanded as a conninfo
	const auto value = [](const std::string& text) { return text.empty() ? nullptr : text.c_str(); };
	const char* const values[] = {"pgseal status",
	                              value(database),
	                              value(options.host),
	                              value(options.port),
	                              value(options.user),
	                              "-c search_path=pg_catalog",
	                              nullptr};
	return Connection(PQconnectdbParams(names, values, 1), PQfinish);
}

bool fetch(PGconn* connection, const Section& section, TextTable& table)
{
	const Rows result(PQexec(connection, section.query), PQclear);
	if (PQresultStatus(result.get()) != PGRES_TUPLES_OK) {
		const char* state = PQresultErrorField(result.get(), PG_DIAG_SQLSTATE);
		std::fprintf(stderr, "pgseal: %s", PQerrorMessage(connection));
		if (state && (std::string(state) == "42P01" || std::string(state) == "3F000")) // undefined table or schema
			std::fprintf(stderr, "hint: Run CREATE EXTENSION pg_seal in this database, or name another with -d.\n");
		else if (state && std::string(state) == "42501")
			std::fprintf(stderr, "hint: Connect as a superuser or as a member of pg_monitor.\n");
		return false;
	}
	const int columns = PQnfields(result.get());
	for (int c = 0; c < columns; ++c)
		table.heading.push_back(PQfname(result.get(), c));
	for (int r = 0; r < PQntuples(result.get()); ++r) {
		std::vector<std::string> row;
		for (int c = 0; c < columns; ++c) {
			const std::string text = PQgetvalue(result.get(), r, c);
			const bool boolean = PQftype(result.get(), c) == 16; // bool's OID
			row.push_back(!boolean ? text : text == "t" ? "yes" : text == "f" ? "no" : "");
		}
		table.rows.push_back(std::move(row));
	}
	return true;
}

void print(const Section& section, const TextTable& table)
{
	std::printf("%s\n%s\n", section.title, table.rows.empty() ? "(none)\n" : table.text().c_str());
}

int run_status(const StatusOptions& options)
{
	const Connection connection = connect(options);
	if (PQstatus(connection.get()) != CONNECTION_OK) {
		std::fprintf(stderr, "pgseal: %s", PQerrorMessage(connection.get()));
		return kExitUnable;
	}
	TextTable health;
	if (!fetch(connection.get(), kHealth, health))
		return kExitUnable;
	int exit_code = kExitOk;
	std::vector<std::string> hints;
	for (std::vector<std::string>& row : health.rows) {
		if (row[1] != "ok" && row[1] != "info" && row[1] != "warning")
			exit_code = kExitProblem;
		if (row[1] != "ok" && !row[3].empty())
			hints.push_back(row[0] + ": " + row[3]);
		row.pop_back();
	}
	health.heading.pop_back();
	print(kHealth, health);
	for (const std::string& hint : hints)
		std::printf("-> %s\n", hint.c_str());
	if (!hints.empty())
		std::printf("\n");
	for (const Section& section : kSections) {
		TextTable table;
		if (!fetch(connection.get(), section, table))
			return kExitUnable;
		print(section, table);
	}
	return exit_code;
}

} // namespace

void add_status_command(CLI::App& app, int& exit_code)
{
	auto options = std::make_shared<StatusOptions>();
	CLI::App* command = app.add_subcommand("status", "health, providers, keyrings and tablespaces of a running server");
	command->set_help_flag("--help", "print this help message and exit"); // -h is the host, as in psql
	CLI::Option* conninfo =
		command->add_option("conninfo", options->conninfo, "connection string or URI; or use the options");
	command->add_option("-h,--host", options->host, "server host or socket directory");
	command->add_option("-p,--port", options->port, "server port");
	command->add_option("-U,--username", options->user, "database role");
	command->add_option("-d,--dbname", options->database, "database (or a connection string)")->excludes(conninfo);
	command->callback([options, &exit_code] { exit_code = run_status(*options); });
}

} // namespace seal::cli
