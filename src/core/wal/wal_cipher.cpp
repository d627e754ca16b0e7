#include "seal/wal_cipher.hpp"

#include "../crypto/xts.hpp"

#include "seal/crypto.hpp"
#include "seal/secret.hpp"

namespace seal {

namespace {

constexpr char kWalKeyLabel[] = "pg_seal wal key v1"; // on disk in effect: it decides every key
constexpr std::size_t kLabelSize = sizeof kWalKeyLabel - 1;
constexpr std::size_t kTweakTimeline = 8;
constexpr std::size_t kTweakUnit = 12;
enum class Unit : std::uint8_t { head = 0, body = 1 };

void make_tweak(std::uint8_t tweak[kTweakSize], const std::uint8_t* page) noexcept
{
	std::memset(tweak, 0, kTweakSize);
	const std::uint64_t address = wal_address(page);
	const std::uint32_t timeline = wal_timeline(page);
	for (std::size_t i = 0; i < 8; i++)
		tweak[i] = static_cast<std::uint8_t>(address >> (8 * i));
	for (std::size_t i = 0; i < 4; i++)
		tweak[kTweakTimeline + i] = static_cast<std::uint8_t>(timeline >> (8 * i));
	tweak[kTweakUnit] = static_cast<std::uint8_t>(Unit::head);
}

} // namespace

bool wal_key_expand(CipherId cipher, const std::uint8_t seed[kDekSeedSize], std::uint8_t key[kWalKeySize]) noexcept
{
	const XtsMethod* const method = xts_method(cipher);
	if (method == nullptr)
		return false;
	std::uint8_t info[kLabelSize + 1];
	std::memcpy(info, kWalKeyLabel, kLabelSize);
	info[kLabelSize] = static_cast<std::uint8_t>(cipher);
	std::memset(key, 0, kWalKeySize);
	const std::size_t half = method->key_size / 2;
	if (hkdf_expand({seed, kDekSeedSize}, info, {key, method->key_size}) &&
	    !equal_constant_time({key, half}, {key + half, half})) // IEEE 1619; FIPS 140-3 IG C.I
		return true;
	wipe(key, kWalKeySize);
	return false;
}

WalCipher::~WalCipher()
{
	if (encrypt_ != nullptr)
		method_->free_context(encrypt_);
	if (decrypt_ != nullptr)
		method_->free_context(decrypt_);
}

bool WalCipher::make(CipherId cipher) noexcept
{
	if (made())
		return false;
	const XtsMethod* const method = xts_method(cipher);
	// A context is made with a key: a random one, until set_key().
	std::uint8_t key[kWalKeySize];
	if (method == nullptr || !random_private_bytes({key, sizeof key}))
		return false;
	encrypt_ = xts_new(*method, true, key);
	decrypt_ = xts_new(*method, false, key);
	wipe(key, sizeof key);
	method_ = method;
	return encrypt_ != nullptr && decrypt_ != nullptr;
}

bool WalCipher::set_key(const std::uint8_t key[kWalKeySize]) noexcept
{
	static constexpr std::uint8_t kNoTweak[kTweakSize] = {};
	return made() && method_->encrypt_init(encrypt_, key, method_->key_size, kNoTweak, kTweakSize, nullptr) == 1 &&
	       method_->decrypt_init(decrypt_, key, method_->key_size, kNoTweak, kTweakSize, nullptr) == 1;
}

bool WalCipher::seal(const std::uint8_t* plain, std::uint8_t* sealed, std::uint32_t generation) noexcept
{
	std::uint8_t tweak[kTweakSize];
	make_tweak(tweak, plain);
	const std::uint16_t info = wal_info(plain);
	const std::size_t head = wal_header_size(info), body = head + kWalHeadUnit;
	std::memcpy(sealed, plain, head);
	wal_set_info(sealed, wal_seal_info(info, generation));
	if (!xts_encrypt(*method_, encrypt_, tweak, plain + head, sealed + head, kWalHeadUnit))
		return false;
	tweak[kTweakUnit] = static_cast<std::uint8_t>(Unit::body);
	return xts_encrypt(*method_, encrypt_, tweak, plain + body, sealed + body, kWalPageSize - body);
}

bool WalCipher::open(std::uint8_t* page) noexcept
{
	std::uint8_t tweak[kTweakSize];
	make_tweak(tweak, page);
	const std::uint16_t info = wal_info(page);
	const std::size_t head = wal_header_size(info), body = head + kWalHeadUnit;
	if (!xts_decrypt(*method_, decrypt_, tweak, page + head, page + head, kWalHeadUnit))
		return false;
	tweak[kTweakUnit] = static_cast<std::uint8_t>(Unit::body);
	if (!xts_decrypt(*method_, decrypt_, tweak, page + body, page + body, kWalPageSize - body))
		return false;
	wal_set_info(page, static_cast<std::uint16_t>(info & kWalPlainInfo));
	return true;
}

} // namespace seal
