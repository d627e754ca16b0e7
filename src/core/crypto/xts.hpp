// AES-XTS data units at the least cost per call: the functions of the OpenSSL provider that EVP_CIPHER_fetch() chose,
// called directly.
//
// Why not EVP_EncryptInit_ex2() and EVP_EncryptUpdate(): a sealed page is two data units, each with its own tweak, and
// in OpenSSL 3.0 setting a tweak through EVP looks the IV length up by name (100 to 150 ns a time, a tenth of the
// cipher's own time for a page). EVP is a thin layer over a documented interface (provider-cipher(7): newctx,
// encrypt_init with a null key, update) that any program may call (OSSL_PROVIDER_query_operation(3)); the cipher that
// runs is the very one EVP would run, in the same module (also a FIPS module). seal_bench shows both ways side by side.
#pragma once

#include "seal/page_cipher.hpp"

#include <openssl/core_dispatch.h>

namespace seal {

struct XtsMethod {
	OSSL_FUNC_cipher_newctx_fn* new_context;
	OSSL_FUNC_cipher_freectx_fn* free_context; // wipes
	OSSL_FUNC_cipher_encrypt_init_fn* encrypt_init;
	OSSL_FUNC_cipher_decrypt_init_fn* decrypt_init;
	OSSL_FUNC_cipher_update_fn* update;
	void* provider_context;
	const EVP_CIPHER* cipher; // a reference that is never given back: it keeps the provider and its functions loaded
	std::size_t key_size;     // both halves
};

inline constexpr std::size_t kTweakSize = 16;

// Resolved once per process image, never freed; null: unknown cipher, or the library does not offer it.
const XtsMethod* xts_method(CipherId cipher) noexcept;

// A context of one direction, or null. `key` has method.key_size bytes.
void* xts_new(const XtsMethod& method, bool encrypt, const std::uint8_t* key) noexcept;

// One data unit of at least 16 bytes, in place or not overlapping. The context keeps its key; nothing is allocated.
[[nodiscard]] inline bool xts_encrypt(const XtsMethod& method, void* context, const std::uint8_t tweak[kTweakSize],
                                      const std::uint8_t* in, std::uint8_t* out, std::size_t size) noexcept
{
	std::size_t done = 0;
	return method.encrypt_init(context, nullptr, 0, tweak, kTweakSize, nullptr) == 1 &&
	       method.update(context, out, &done, size, in, size) == 1 && done == size;
}
[[nodiscard]] inline bool xts_decrypt(const XtsMethod& method, void* context, const std::uint8_t tweak[kTweakSize],
                                      const std::uint8_t* in, std::uint8_t* out, std::size_t size) noexcept
{
	std::size_t done = 0;
	return method.decrypt_init(context, nullptr, 0, tweak, kTweakSize, nullptr) == 1 &&
	       method.update(context, out, &done, size, in, size) == 1 && done == size;
}

} // namespace seal
