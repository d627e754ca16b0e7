// seal.add_provider, alter_provider, drop_provider, check_provider.
//
// A definition names files and commands that run as the server's user, so only a superuser changes one, whatever was granted.
// Whether a definition is well-formed is the agent's to say (the server links no provider): malformed is an error, unreachable is a
// warning, because a token may be plugged in later.
#include "../audit/audit_event.hpp"
#include "key_change.hpp"
#include "key_wrapping.hpp"
#include "sql_args.hpp"
#include "sql_entry.hpp"
#include "sql_rows.hpp"
#include "sql_text.hpp"

#include "seal/crypto.hpp"

namespace seal::pg {

namespace {

void need_superuser(const char* function)
{
	if (!pg_call([] { return superuser(); }))
		fail(ERRCODE_INSUFFICIENT_PRIVILEGE, std::string("permission denied: ") + function + " needs a superuser",
		     "A provider's definition names files and commands that are used as the server's operating system user.");
}

bool tells_of_the_caller(ErrorCode code)
{
	return code == ErrorCode::invalid_argument || code == ErrorCode::unsupported;
}

// Empty: every endpoint works. Otherwise what is wrong. Throws what is wrong with the definition itself.
std::string trouble_with(const ProviderDef& provider)
{
	try {
		const AgentReply reply = agent_call(request_to(provider, AgentOp::check));
		std::string trouble;
		for (const EndpointStatus& endpoint : reply.endpoints)
			if (!endpoint.ok)
				trouble += (trouble.empty() ? "" : "; ") + endpoint.endpoint + ": " + endpoint.detail;
		if (reply.endpoints.empty())
			trouble = "no endpoint answered";
		return trouble;
	} catch (const SealError& e) {
		if (tells_of_the_caller(e.error.code))
			throw;
		return e.error.message + (e.error.hint.empty() ? "" : " (" + e.error.hint + ")");
	}
}

void warn_of(const ProviderDef& provider, const std::string& trouble)
{
	if (!trouble.empty())
		notify(WARNING, "provider \"" + provider.name + "\" is recorded, but it cannot be used now: " + trouble,
		       "Put it right, then run SELECT * FROM seal.check_provider('" + provider.name + "').");
}

// The audit log tells that a definition changed without repeating it: a command in it may have an argument worth hiding.
void note_definition(AuditDetail& detail, const ProviderDef& provider, const std::string& trouble)
{
	std::uint8_t digest[kSha256Size];
	detail.text("kind", provider.kind).flag("reachable", trouble.empty());
	if (sha256(as_bytes(provider.config_json), digest))
		detail.text("config_sha256", to_hex(digest));
}

// Keyrings whose current or older KEK lies in the provider.
std::vector<KeyringDef> keyrings_of(const Registry& registry, const std::string& provider)
{
	std::vector<KeyringDef> found;
	for (KeyringDef& keyring : registry.keyrings())
		for (const KekVersion& kek : keyring.keks)
			if (kek.provider == provider) {
				found.push_back(std::move(keyring));
				break;
			}
	return found;
}

void add_provider(const std::string& name, const std::string& kind, const std::string& config)
{
	AuditEvent event("provider.add", name);
	std::string trouble;
	ProviderDef provider;
	audited(event, [&] {
		need_superuser("seal.add_provider");
		const KeyChange change("seal.add_provider()");
		const auto refuse_taken = [&](const Registry& now) {
			if (find_provider(now, name))
				raise(Error(ErrorCode::already_exists, "provider \"" + name + "\" already exists",
				            "seal.alter_provider() changes its definition."));
		};
		refuse_taken(registry_read());
		provider.name = name;
		provider.kind = kind;
		provider.config_json = config;
		provider.created_at = provider.altered_at = now_microseconds();
		trouble = trouble_with(provider);
		note_definition(event.detail, provider, trouble);
		change_registry([&](const Registry& now) {
			refuse_taken(now);
			return now.put(provider);
		});
	});
	agent_wake();
	warn_of(provider, trouble);
}

void alter_provider(const std::string& name, const std::string& config)
{
	AuditEvent event("provider.alter", name);
	std::string trouble;
	ProviderDef provider;
	audited(event, [&] {
		need_superuser("seal.alter_provider");
		const KeyChange change("seal.alter_provider()");
		const Registry before = registry_read();
		provider = need_provider(before, name);
		provider.config_json = config;
		provider.altered_at = now_microseconds();
		trouble = trouble_with(provider);
		note_definition(event.detail, provider, trouble);
		// A reachable token that lacks the keyrings' keys, or holds others, would keep the server from starting again.
		if (trouble.empty())
			for (const KeyringDef& keyring : keyrings_of(before, name))
				if (keyring.provider() == name)
					verify_kek(provider, keyring, keyring.keks.back());
		change_registry([&](const Registry& now) {
			need_provider(now, name);
			return now.put(provider);
		});
	});
	agent_wake();
	warn_of(provider, trouble);
}

void drop_provider(const std::string& name)
{
	AuditEvent event("provider.drop", name);
	audited(event, [&] {
		need_superuser("seal.drop_provider");
		const KeyChange change("seal.drop_provider()");
		change_registry([&](const Registry& now) {
			need_provider(now, name);
			const std::vector<KeyringDef> users = keyrings_of(now, name);
			if (!users.empty())
				fail(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
				     "provider \"" + name + "\" is in use by keyring \"" + users.front().name + "\"",
				     "Drop the keyrings that use it first; seal.keyrings lists them.");
			return now.remove("providers", name);
		});
	});
	agent_wake();
}

void check_provider(const std::string& name, Rows& rows)
{
	AuditEvent event("provider.check", name);
	std::vector<EndpointStatus> endpoints;
	audited(event, [&] {
		const ProviderDef provider = need_provider(registry_read(), name);
		try {
			endpoints = agent_call(request_to(provider, AgentOp::check)).endpoints;
		} catch (const SealError& e) { // no endpoint was reached: a row says so, as for any other that does not work
			EndpointStatus status;
			status.endpoint = name;
			status.detail = e.error.message + (e.error.hint.empty() ? "" : ": " + e.error.hint);
			endpoints.push_back(std::move(status));
		}
		bool all = !endpoints.empty();
		for (const EndpointStatus& endpoint : endpoints) {
			all = all && endpoint.ok;
			if (!endpoint.ok)
				event.detail.text("trouble", endpoint.detail);
		}
		event.detail.flag("reachable", all).number("endpoints", static_cast<std::int64_t>(endpoints.size()));
	});
	for (const EndpointStatus& endpoint : endpoints) {
		rows.text(endpoint.endpoint).flag(endpoint.ok);
		if (endpoint.ok)
			rows.real(endpoint.latency_ms);
		else
			rows.null();
		rows.time(endpoint.certificate_expires.value_or(0)).text(endpoint.detail).end();
	}
}

} // namespace

extern "C" {
PG_FUNCTION_INFO_V1(pg_seal_add_provider);
PG_FUNCTION_INFO_V1(pg_seal_alter_provider);
PG_FUNCTION_INFO_V1(pg_seal_drop_provider);
PG_FUNCTION_INFO_V1(pg_seal_check_provider);

PGDLLEXPORT Datum pg_seal_add_provider(PG_FUNCTION_ARGS)
{
	return sql_entry([&] {
		const std::string name = name_arg(fcinfo, 0, "name"), kind = text_arg(fcinfo, 1, "kind");
		add_provider(name, kind, jsonb_object_arg(fcinfo, 2, "config"));
		return Datum{0};
	});
}

PGDLLEXPORT Datum pg_seal_alter_provider(PG_FUNCTION_ARGS)
{
	return sql_entry([&] {
		const std::string name = name_arg(fcinfo, 0, "name");
		alter_provider(name, jsonb_object_arg(fcinfo, 1, "config"));
		return Datum{0};
	});
}

PGDLLEXPORT Datum pg_seal_drop_provider(PG_FUNCTION_ARGS)
{
	return sql_entry([&] {
		drop_provider(name_arg(fcinfo, 0, "name"));
		return Datum{0};
	});
}

PGDLLEXPORT Datum pg_seal_check_provider(PG_FUNCTION_ARGS)
{
	return sql_entry([&] {
		const std::string name = name_arg(fcinfo, 0, "name");
		Rows rows(fcinfo);
		check_provider(name, rows);
		return Datum{0};
	});
}
}

} // namespace seal::pg
