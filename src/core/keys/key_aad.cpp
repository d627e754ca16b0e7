// Associated data: what a wrapped key is for. Labels are on disk in effect: never change one.
#include "seal/registry.hpp"

namespace seal {

static Bytes labelled(std::string_view label, const std::string& uuid_hex)
{
	Bytes aad(label.begin(), label.end());
	Bytes uuid;
	// The registry holds 32 hex digits. Anything else yields associated data that opens nothing.
	(void) from_hex(uuid_hex, uuid);
	aad.insert(aad.end(), uuid.begin(), uuid.end());
	return aad;
}

static Bytes with_version(Bytes aad, std::uint32_t version)
{
	for (int i = 0; i < 4; i++)
		aad.push_back(static_cast<std::uint8_t>(version >> (8 * i)));
	return aad;
}

Bytes keyring_key_aad(const std::string& keyring_uuid_hex, std::uint32_t version)
{
	return with_version(labelled("pg_seal keyring key v1", keyring_uuid_hex), version);
}

Bytes kek_check_aad(const std::string& keyring_uuid_hex, std::uint32_t kek_version)
{
	return with_version(labelled("pg_seal kek check v1", keyring_uuid_hex), kek_version);
}

Bytes hsm_dek_aad(const std::string& keyring_uuid_hex) { return labelled("pg_seal hsm dek v1", keyring_uuid_hex); }

} // namespace seal
