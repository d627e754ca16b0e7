#include "key_change.hpp"

#include "sql_text.hpp"

extern "C" {
#include "catalog/pg_extension.h"
#include "utils/timestamp.h"
}

namespace seal::pg {

namespace {
// An object lock that the server itself never takes: extensions belong to a database, database 0 is none.
constexpr uint32 kChangeLockObject = 0x5EA1;
} // namespace

void refuse_where_nothing_changes(const char* function)
{
	pg_call([&] {
		PreventCommandDuringRecovery(function);
		PreventCommandIfReadOnly(function);
		PreventCommandIfParallelMode(function);
	});
}

KeyChange::KeyChange(const char* function)
{
	refuse_where_nothing_changes(function);
	SET_LOCKTAG_OBJECT(tag_, InvalidOid, ExtensionRelationId, kChangeLockObject, 0);
	pg_call([&] { LockAcquire(&tag_, ExclusiveLock, false, false); });
}

KeyChange::~KeyChange() { LockRelease(&tag_, ExclusiveLock, false); }

std::uint64_t next_operation_id()
{
	std::uint64_t id = 0;
	change_registry([&](const Registry& now) {
		id = now.counter("operation_id") + 1;
		return now.put_counter("operation_id", id);
	});
	return id;
}

std::optional<ProviderDef> find_provider(const Registry& registry, const std::string& name)
{
	for (ProviderDef& provider : registry.providers())
		if (provider.name == name)
			return std::move(provider);
	return std::nullopt;
}

std::optional<KeyringDef> find_keyring(const Registry& registry, const std::string& name)
{
	for (KeyringDef& keyring : registry.keyrings())
		if (keyring.name == name)
			return std::move(keyring);
	return std::nullopt;
}

ProviderDef need_provider(const Registry& registry, const std::string& name)
{
	if (auto provider = find_provider(registry, name))
		return std::move(*provider);
	raise(Error(ErrorCode::not_found, "provider \"" + name + "\" does not exist",
	            "seal.providers lists the providers; seal.add_provider() adds one."));
}

KeyringDef need_keyring(const Registry& registry, const std::string& name)
{
	if (auto keyring = find_keyring(registry, name))
		return std::move(*keyring);
	const std::vector<ProviderDef> providers = registry.providers();
	const std::string provider = providers.empty() ? "my_provider" : providers.front().name;
	raise(Error(ErrorCode::not_found, "keyring \"" + name + "\" does not exist",
	            "Create it with SELECT seal.create_keyring('" + name + "', '" + provider + "')" +
	                (providers.empty() ? " after seal.add_provider()." : ".")));
}

std::int64_t now_microseconds()
{
	return GetCurrentTimestamp() + (static_cast<std::int64_t>(POSTGRES_EPOCH_JDATE) - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
}

std::string current_role()
{
	return utf8_from_server(pg_call([] { return static_cast<const char*>(GetUserNameFromId(GetUserId(), false)); }));
}

} // namespace seal::pg
