#include "seal/key_slot.hpp"

#include "seal/crypto.hpp"
#include "seal/secret.hpp"

#include <cstring>
#include <string_view>

namespace seal {

namespace {

// Labels decide keys: on disk in effect, never change one.
constexpr std::string_view kWrapKeyLabel = "pg_seal dek wrap key v1";
constexpr std::string_view kMacKeyLabel = "pg_seal slot mac key v1";
constexpr std::string_view kKeyCheckLabel = "pg_seal key check v1";
constexpr std::string_view kDekAadLabel = "pg_seal dek v1";
static_assert(kDekAadLabel.size() + 18 == kDekAadSize);

constexpr std::size_t kLocalWrappedSize = kAeadNonceSize + kDekSeedSize + kAeadTagSize;
static_assert(kLocalWrappedSize == 60 && kLocalWrappedSize <= kWrappedSeedMax);
constexpr std::size_t kAuthenticatedSize = offsetof(KeySlot, mac);

// A subkey on the stack, wiped when it goes out of scope.
struct Subkey {
	std::uint8_t bytes[kAeadKeySize];
	bool ok;
	Subkey(const std::uint8_t* keyring_key, std::string_view label) noexcept
		: ok(hkdf_expand({keyring_key, kKeyringKeySize}, as_bytes(label), bytes))
	{}
	Subkey(const Subkey&) = delete;
	~Subkey() { wipe(bytes, sizeof bytes); }
};

void put_u32(std::uint8_t* at, std::uint32_t v) noexcept
{
	for (int i = 0; i < 4; i++)
		at[i] = static_cast<std::uint8_t>(v >> (8 * i));
}

bool compute_mac(const KeySlot& slot, const std::uint8_t* keyring_key, std::uint8_t mac[kSha256Size]) noexcept
{
	const Subkey key(keyring_key, kMacKeyLabel);
	return key.ok && hmac_sha256(key.bytes, {reinterpret_cast<const std::uint8_t*>(&slot), kAuthenticatedSize}, mac);
}

} // namespace

void slot_dek_aad(const KeySlot& slot, bool old, std::uint8_t aad[kDekAadSize]) noexcept
{
	const KeyForm form = old ? slot.old_form : slot.form;
	std::uint8_t* at = aad;
	std::memcpy(at, kDekAadLabel.data(), kDekAadLabel.size());
	at += kDekAadLabel.size();
	put_u32(at, slot.tablespace);
	put_u32(at + 4, slot.rel_node);
	put_u32(at + 8, slot.keyring_id);
	put_u32(at + 12, slot.keyring_version);
	at[16] = static_cast<std::uint8_t>(form.cipher);
	at[17] = form.generation;
}

bool new_dek_seed(std::uint8_t seed[kDekSeedSize]) noexcept { return random_private_bytes({seed, kDekSeedSize}); }

bool dek_key_check(const std::uint8_t seed[kDekSeedSize], std::uint8_t check[kKeyCheckSize]) noexcept
{
	return hkdf_expand({seed, kDekSeedSize}, as_bytes(kKeyCheckLabel), {check, kKeyCheckSize});
}

bool slot_wrap_seed(KeySlot& slot, const std::uint8_t keyring_key[kKeyringKeySize],
                    const std::uint8_t seed[kDekSeedSize]) noexcept
{
	const Subkey key(keyring_key, kWrapKeyLabel);
	std::uint8_t aad[kDekAadSize];
	std::uint8_t wrapped[kWrappedSeedMax] = {};
	std::uint8_t check[kKeyCheckSize];
	slot_dek_aad(slot, false, aad);
	if (!key.ok || !random_bytes({wrapped, kAeadNonceSize}) ||
	    !aead_seal(key.bytes, wrapped, aad, {seed, kDekSeedSize},
	               {wrapped + kAeadNonceSize, kDekSeedSize + kAeadTagSize}) ||
	    !dek_key_check(seed, check))
		return false;
	slot.mechanism = WrapMechanism::local_aes_gcm;
	slot.wrapped_size = kLocalWrappedSize;
	std::memcpy(slot.wrapped, wrapped, sizeof wrapped);
	std::memcpy(slot.key_check, check, sizeof check);
	return true;
}

bool slot_unwrap_seed(const KeySlot& slot, bool old, const std::uint8_t keyring_key[kKeyringKeySize],
                      std::uint8_t seed[kDekSeedSize]) noexcept
{
	const std::uint8_t* const wrapped = old ? slot.old_wrapped : slot.wrapped;
	const std::uint8_t size = old ? slot.old_wrapped_size : slot.wrapped_size;
	if (slot.mechanism != WrapMechanism::local_aes_gcm || size != kLocalWrappedSize)
		return false;
	const Subkey key(keyring_key, kWrapKeyLabel);
	std::uint8_t aad[kDekAadSize];
	std::uint8_t check[kKeyCheckSize];
	slot_dek_aad(slot, old, aad);
	if (!key.ok || !aead_open(key.bytes, wrapped, aad, {wrapped + kAeadNonceSize, kDekSeedSize + kAeadTagSize},
	                          {seed, kDekSeedSize}))
		return false;
	if (dek_key_check(seed, check) &&
	    equal_constant_time(check, {old ? slot.old_key_check : slot.key_check, kKeyCheckSize}))
		return true;
	wipe(seed, kDekSeedSize);
	return false;
}

bool slot_set_mac(KeySlot& slot, const std::uint8_t keyring_key[kKeyringKeySize]) noexcept
{
	std::uint8_t mac[kSha256Size];
	if (!compute_mac(slot, keyring_key, mac))
		return false;
	std::memcpy(slot.mac, mac, kSlotMacSize);
	return true;
}

bool slot_mac_ok(const KeySlot& slot, const std::uint8_t keyring_key[kKeyringKeySize]) noexcept
{
	std::uint8_t mac[kSha256Size];
	return compute_mac(slot, keyring_key, mac) && equal_constant_time({mac, kSlotMacSize}, slot.mac);
}

} // namespace seal
