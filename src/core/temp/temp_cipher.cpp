#include "seal/temp_cipher.hpp"

#include "crypto/xts.hpp"

#include "seal/crypto.hpp"
#include "seal/secret.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <climits>
#include <cstring>

namespace seal {

namespace {

constexpr std::size_t kStreamKeySize = 32;
constexpr std::size_t kXtsKeySize = 64;

bool expand(const std::uint8_t seed[kTempSeedSize], const char* label, std::uint8_t* key, std::size_t size) noexcept
{
	return hkdf_expand({seed, kTempSeedSize}, as_bytes(label), {key, size});
}

void make_tweak(std::uint8_t tweak[kTweakSize], const TempFileId& id, std::uint32_t unit) noexcept
{
	static_assert(kTempFileIdSize + 4 == kTweakSize);
	std::memcpy(tweak, id.bytes, kTempFileIdSize);
	for (std::size_t i = 0; i < 4; i++)
		tweak[kTempFileIdSize + i] = static_cast<std::uint8_t>(unit >> (8 * i));
}

EVP_CIPHER_CTX* make_counter(const std::uint8_t key[kStreamKeySize]) noexcept
{
	static constexpr std::uint8_t kNoNonce[kStreamNonceSize] = {};
	static EVP_CIPHER* const cipher = EVP_CIPHER_fetch(nullptr, "AES-256-CTR", nullptr);
	EVP_CIPHER_CTX* const context = cipher ? EVP_CIPHER_CTX_new() : nullptr;
	if (context && EVP_EncryptInit_ex2(context, cipher, key, kNoNonce, nullptr) == 1)
		return context;
	EVP_CIPHER_CTX_free(context);
	return nullptr;
}

// The counter block of SP 800-38A is one big-endian number of 128 bits.
void counter_block(std::uint8_t block[kStreamNonceSize], const std::uint8_t nonce[kStreamNonceSize],
                   std::uint64_t add) noexcept
{
	unsigned carry = 0;
	for (std::size_t i = kStreamNonceSize; i-- > 0; add >>= 8) {
		const unsigned sum = nonce[i] + static_cast<unsigned>(add & 0xFF) + carry;
		block[i] = static_cast<std::uint8_t>(sum);
		carry = sum >> 8;
	}
}

} // namespace

TempCipher::~TempCipher() { release(); }

void TempCipher::release() noexcept
{
	if (encrypt_)
		method_->free_context(encrypt_);
	if (decrypt_)
		method_->free_context(decrypt_);
	EVP_CIPHER_CTX_free(static_cast<EVP_CIPHER_CTX*>(counter_));
	method_ = nullptr;
	encrypt_ = decrypt_ = counter_ = nullptr;
	wipe(path_key_, sizeof path_key_);
}

bool TempCipher::make(const std::uint8_t seed[kTempSeedSize]) noexcept
{
	release();
	const XtsMethod* const method = xts_method(CipherId::aes_256_xts);
	if (!method || method->key_size != kXtsKeySize)
		return false;
	std::uint8_t unit_key[kXtsKeySize], stream_key[kStreamKeySize];
	method_ = method;
	bool made = expand(seed, "pg_seal temp unit v1", unit_key, sizeof unit_key) &&
	            expand(seed, "pg_seal temp path v1", path_key_, sizeof path_key_) &&
	            expand(seed, "pg_seal temp stream v1", stream_key, sizeof stream_key);
	if (made) {
		encrypt_ = xts_new(*method, true, unit_key);
		decrypt_ = xts_new(*method, false, unit_key);
		counter_ = make_counter(stream_key);
		made = encrypt_ && decrypt_ && counter_;
	}
	wipe(unit_key, sizeof unit_key);
	wipe(stream_key, sizeof stream_key);
	if (!made)
		release();
	return made;
}

bool TempCipher::file_id(const char* path, std::size_t size, TempFileId& id) noexcept
{
	std::uint8_t mac[kSha256Size];
	if (!made() || !hmac_sha256(path_key_, as_bytes({path, size}), mac))
		return false;
	std::memcpy(id.bytes, mac, sizeof id.bytes);
	return true;
}

bool TempCipher::seal_unit(const TempFileId& id, std::uint32_t unit, const std::uint8_t* plain, std::uint8_t* sealed,
                           std::size_t size) noexcept
{
	std::uint8_t tweak[kTweakSize];
	make_tweak(tweak, id, unit);
	return made() && xts_encrypt(*method_, encrypt_, tweak, plain, sealed, size);
}

bool TempCipher::open_unit(const TempFileId& id, std::uint32_t unit, const std::uint8_t* sealed, std::uint8_t* plain,
                           std::size_t size) noexcept
{
	std::uint8_t tweak[kTweakSize];
	make_tweak(tweak, id, unit);
	return made() && xts_decrypt(*method_, decrypt_, tweak, sealed, plain, size);
}

bool TempCipher::stream(const std::uint8_t nonce[kStreamNonceSize], std::uint64_t position, const std::uint8_t* in,
                        std::uint8_t* out, std::size_t size) noexcept
{
	EVP_CIPHER_CTX* const context = static_cast<EVP_CIPHER_CTX*>(counter_);
	std::uint8_t block[kStreamNonceSize], skipped[kTempGranule] = {};
	int done = 0;
	counter_block(block, nonce, position / kTempGranule);
	if (!made() || EVP_EncryptInit_ex2(context, nullptr, nullptr, block, nullptr) != 1)
		return false;
	const int skip = static_cast<int>(position % kTempGranule);
	if (skip > 0 && (EVP_EncryptUpdate(context, skipped, &done, skipped, skip) != 1 || done != skip))
		return false;
	while (size > 0) {
		const int part = static_cast<int>(std::min<std::size_t>(size, INT_MAX / 2));
		if (EVP_EncryptUpdate(context, out, &done, in, part) != 1 || done != part)
			return false;
		in += part;
		out += part;
		size -= static_cast<std::size_t>(part);
	}
	return true;
}

} // namespace seal
