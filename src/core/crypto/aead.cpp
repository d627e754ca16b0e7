// AES-256-GCM through EVP. One context per call: these are key wraps, not page traffic.
#include "evp.hpp"

#include "seal/crypto.hpp"
#include "seal/secret.hpp"

#include <climits>

namespace seal {

static bool too_long(std::size_t size) noexcept { return size > INT_MAX; }

static bool seal_with(EVP_CIPHER_CTX* ctx, const std::uint8_t* key, const std::uint8_t* nonce, ByteView aad,
                      ByteView plaintext, std::uint8_t* out) noexcept
{
	int n = 0;
	std::uint8_t* const tag = out + plaintext.size();
	if (EVP_EncryptInit_ex2(ctx, evp::algorithms().aes_256_gcm, key, nonce, nullptr) != 1)
		return false;
	if (!aad.empty() && EVP_EncryptUpdate(ctx, nullptr, &n, aad.data(), static_cast<int>(aad.size())) != 1)
		return false;
	if (!plaintext.empty() &&
	    EVP_EncryptUpdate(ctx, out, &n, plaintext.data(), static_cast<int>(plaintext.size())) != 1)
		return false;
	return EVP_EncryptFinal_ex(ctx, tag, &n) == 1 &&
	       EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, kAeadTagSize, tag) == 1;
}

static bool open_with(EVP_CIPHER_CTX* ctx, const std::uint8_t* key, const std::uint8_t* nonce, ByteView aad,
                      ByteView sealed, MutableBytes out) noexcept
{
	int n = 0;
	std::uint8_t end[16]; // GCM's final call writes nothing, but needs a place
	std::uint8_t* const tag =
		const_cast<std::uint8_t*>(sealed.data()) + out.size(); // read only, whatever the type says
	if (EVP_DecryptInit_ex2(ctx, evp::algorithms().aes_256_gcm, key, nonce, nullptr) != 1)
		return false;
	if (!aad.empty() && EVP_DecryptUpdate(ctx, nullptr, &n, aad.data(), static_cast<int>(aad.size())) != 1)
		return false;
	if (!out.empty() && EVP_DecryptUpdate(ctx, out.data(), &n, sealed.data(), static_cast<int>(out.size())) != 1)
		return false;
	return EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, kAeadTagSize, tag) == 1 &&
	       EVP_DecryptFinal_ex(ctx, end, &n) == 1;
}

bool aead_seal(const std::uint8_t key[kAeadKeySize], const std::uint8_t nonce[kAeadNonceSize], ByteView aad,
               ByteView plaintext, MutableBytes out) noexcept
{
	if (!evp::algorithms().complete || out.size() != plaintext.size() + kAeadTagSize || too_long(aad.size()) ||
	    too_long(out.size()))
		return false;
	const evp::CipherCtx ctx(EVP_CIPHER_CTX_new());
	if (ctx && seal_with(ctx.get(), key, nonce, aad, plaintext, out.data()))
		return true;
	wipe(out.data(), out.size());
	return false;
}

bool aead_open(const std::uint8_t key[kAeadKeySize], const std::uint8_t nonce[kAeadNonceSize], ByteView aad,
               ByteView sealed, MutableBytes out) noexcept
{
	if (!evp::algorithms().complete || sealed.size() < kAeadTagSize || out.size() != sealed.size() - kAeadTagSize ||
	    too_long(aad.size()) || too_long(sealed.size()))
		return false;
	const evp::CipherCtx ctx(EVP_CIPHER_CTX_new());
	if (ctx && open_with(ctx.get(), key, nonce, aad, sealed, out))
		return true;
	wipe(out.data(), out.size());
	return false;
}

} // namespace seal
