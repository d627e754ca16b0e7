#include "start_audit.hpp"

#include "../audit/audit_event.hpp"
#include "../registry/registry_store.hpp"
#include "../vault/vault.hpp"

#include "seal/registry.hpp"
#include "seal/secret.hpp"

namespace seal::pg {

void audit_server_start() noexcept
{
	try {
		std::int64_t keys = 0, unlocked = 0;
		const Registry registry = registry_read();
		const auto keyrings = registry.keyrings();
		for (const KeyringDef& keyring : keyrings)
			for (const KeyringKey& version : keyring.keys) {
				std::uint8_t key[kKeyringKeySize];
				++keys;
				unlocked += vault_get_keyring_key(keyring.id, version.version, key);
				wipe(key, sizeof key);
			}
		AuditDetail detail;
		detail.number("keyrings", static_cast<std::int64_t>(keyrings.size())).number("keys", keys).number("unlocked", unlocked);
		AuditRecord record;
		record.event = "server.start";
		record.object = "server";
		record.result = unlocked == keys ? "ok" : "failed";
		record.detail = detail.str();
		audit_append(std::move(record));
	} catch (const SealError& e) {
		ereport(WARNING, (errmsg("pg_seal agent: the start of the server was not audited: %s", e.error.message.c_str())));
	} catch (...) {
		ereport(WARNING, (errmsg("pg_seal agent: the start of the server was not audited")));
	}
}

} // namespace seal::pg
