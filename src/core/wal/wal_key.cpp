#include "seal/wal_key.hpp"

#include "seal/crypto.hpp"
#include "seal/secret.hpp"

#include <algorithm>
#include <string_view>

namespace seal {

namespace {

constexpr std::string_view kWrapLabel = "pg_seal wal wrap v1"; // so the next: on disk in effect
constexpr std::string_view kKeyLabel = "pg_seal wal key v1";
constexpr std::size_t kUuidSize = 16;
constexpr std::size_t kAadSize = kKeyLabel.size() + kUuidSize + 5;

bool make_aad(const WalKeyDef& def, const std::string& uuid_hex, std::uint8_t aad[kAadSize])
{
	Bytes uuid;
	if (!from_hex(uuid_hex, uuid) || uuid.size() != kUuidSize)
		return false;
	std::uint8_t* at = std::copy(kKeyLabel.begin(), kKeyLabel.end(), aad);
	at = std::copy(uuid.begin(), uuid.end(), at);
	for (int i = 0; i < 4; i++)
		*at++ = static_cast<std::uint8_t>(def.generation >> (8 * i));
	*at = static_cast<std::uint8_t>(def.cipher);
	return true;
}

bool wrap_key(const std::uint8_t keyring_key[kKeyringKeySize], std::uint8_t key[kAeadKeySize]) noexcept
{
	return hkdf_expand({keyring_key, kKeyringKeySize}, as_bytes(kWrapLabel), {key, kAeadKeySize});
}

} // namespace

bool wal_key_make(WalKeyDef& def, const std::string& uuid_hex, const std::uint8_t keyring_key[kKeyringKeySize],
                  std::uint8_t key[kWalKeySize]) noexcept
{
	std::uint8_t seed[kDekSeedSize], wrap[kAeadKeySize], aad[kAadSize];
	def.wrapped.assign(kWrappedWalSeedSize, 0);
	const bool done = make_aad(def, uuid_hex, aad) && random_private_bytes({seed, sizeof seed}) && wrap_key(keyring_key, wrap) &&
	                  random_bytes({def.wrapped.data(), kAeadNonceSize}) &&
	                  aead_seal(wrap, def.wrapped.data(), {aad, sizeof aad}, {seed, sizeof seed},
	                            MutableBytes(def.wrapped).subspan(kAeadNonceSize)) &&
	                  wal_key_expand(def.cipher, seed, key);
	wipe(seed, sizeof seed);
	wipe(wrap, sizeof wrap);
	return done;
}

bool wal_key_open(const WalKeyDef& def, const std::string& uuid_hex, const std::uint8_t keyring_key[kKeyringKeySize],
                  std::uint8_t key[kWalKeySize]) noexcept
{
	if (def.wrapped.size() != kWrappedWalSeedSize)
		return false;
	std::uint8_t seed[kDekSeedSize], wrap[kAeadKeySize], aad[kAadSize];
	const bool done = make_aad(def, uuid_hex, aad) && wrap_key(keyring_key, wrap) &&
	                  aead_open(wrap, def.wrapped.data(), {aad, sizeof aad}, ByteView(def.wrapped).subspan(kAeadNonceSize),
	                            {seed, sizeof seed}) &&
	                  wal_key_expand(def.cipher, seed, key);
	wipe(seed, sizeof seed);
	wipe(wrap, sizeof wrap);
	return done;
}

} // namespace seal
