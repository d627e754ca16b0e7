#include "temp_seed.hpp"

#include "../guc.hpp"
#include "../vault/vault.hpp"

#include "seal/crypto.hpp"
#include "seal/secret.hpp"

#include <cerrno>

namespace seal::pg {

namespace {

union Ciphers { // never destroyed: files may be closed while the process exits
	TempCipher cipher;
	constexpr Ciphers() : cipher() {}
	~Ciphers() {}
};
constinit Ciphers ciphers;
uint32 made_from = 0; // number of the seed

} // namespace

void temp_seed_draw()
{
	if (!guc_encrypt_temp_files)
		return;
	uint8 seed[kTempSeedSize];
	if (random_private_bytes(seed))
		vault_renew_temp_seed(seed);
	else if (vault_temp_seed_number() == 0)
		ereport(FATAL, (errmsg("pg_seal: no random bytes for the key of temporary files"),
		                errhint("Check the OpenSSL installation and its configuration file.")));
	else
		ereport(LOG,
		        (errmsg("pg_seal: no random bytes for a new key of temporary files; the one of the last start stays")));
	wipe(seed, sizeof seed);
}

bool temp_files_sealed() noexcept { return guc_encrypt_temp_files && vault_temp_seed_number() != 0; }

TempCipher* temp_cipher() noexcept
{
	const uint32 number = vault_temp_seed_number();
	if (likely(number != 0 && made_from == number))
		return &ciphers.cipher;
	uint8 seed[kTempSeedSize];
	bool made = false;
	if (number != 0) {
		vault_temp_seed(seed);
		made = ciphers.cipher.make(seed);
		wipe(seed, sizeof seed);
	}
	made_from = made ? number : 0;
	if (!made)
		errno = EIO;
	return made ? &ciphers.cipher : nullptr;
}

} // namespace seal::pg
