#include "xts.hpp"

#include <openssl/evp.h>
#include <openssl/provider.h>

#include <cstring>
#include <string_view>

namespace seal {

// Algorithm names of a provider: "AES-256-XTS:1.3.111.2.1619.0.1.2".
static bool names_contain(const char* names, std::string_view wanted) noexcept
{
	std::string_view rest(names);
	for (;;) {
		const std::size_t end = rest.find(':');
		if (rest.substr(0, end) == wanted)
			return true;
		if (end == std::string_view::npos)
			return false;
		rest.remove_prefix(end + 1);
	}
}

static bool read_dispatch(const OSSL_DISPATCH* entry, XtsMethod& method) noexcept
{
	for (; entry->function_id != 0; entry++) {
		switch (entry->function_id) {
		case OSSL_FUNC_CIPHER_NEWCTX: method.new_context = OSSL_FUNC_cipher_newctx(entry); break;
		case OSSL_FUNC_CIPHER_FREECTX: method.free_context = OSSL_FUNC_cipher_freectx(entry); break;
		case OSSL_FUNC_CIPHER_ENCRYPT_INIT: method.encrypt_init = OSSL_FUNC_cipher_encrypt_init(entry); break;
		case OSSL_FUNC_CIPHER_DECRYPT_INIT: method.decrypt_init = OSSL_FUNC_cipher_decrypt_init(entry); break;
		case OSSL_FUNC_CIPHER_UPDATE: method.update = OSSL_FUNC_cipher_update(entry); break;
		default: break;
		}
	}
	return method.new_context != nullptr && method.free_context != nullptr && method.encrypt_init != nullptr &&
	       method.decrypt_init != nullptr && method.update != nullptr;
}

static XtsMethod resolve(const char* name, std::size_t key_size) noexcept
{
	XtsMethod method{};
	const EVP_CIPHER* const cipher = EVP_CIPHER_fetch(nullptr, name, nullptr);
	method.cipher = cipher;
	if (cipher == nullptr || EVP_CIPHER_get_key_length(cipher) != static_cast<int>(key_size) ||
	    EVP_CIPHER_get_iv_length(cipher) != static_cast<int>(kTweakSize))
		return method;
	const OSSL_PROVIDER* const provider = EVP_CIPHER_get0_provider(cipher);
	if (provider == nullptr)
		return method;
	int no_cache = 0;
	const OSSL_ALGORITHM* const offered = OSSL_PROVIDER_query_operation(provider, OSSL_OP_CIPHER, &no_cache);
	for (const OSSL_ALGORITHM* a = offered; a != nullptr && a->algorithm_names != nullptr; a++) {
		if (!names_contain(a->algorithm_names, name))
			continue;
		if (read_dispatch(a->implementation, method)) {
			method.provider_context = OSSL_PROVIDER_get0_provider_ctx(provider);
			method.key_size = key_size;
		}
		break;
	}
	OSSL_PROVIDER_unquery_operation(provider, OSSL_OP_CIPHER, offered);
	return method;
}

const XtsMethod* xts_method(CipherId cipher) noexcept
{
	static const XtsMethod aes_256 = resolve("AES-256-XTS", 64);
	static const XtsMethod aes_128 = resolve("AES-128-XTS", 32);
	const XtsMethod* method = nullptr;
	if (cipher == CipherId::aes_256_xts)
		method = &aes_256;
	else if (cipher == CipherId::aes_128_xts)
		method = &aes_128;
	return method != nullptr && method->key_size != 0 ? method : nullptr;
}

void* xts_new(const XtsMethod& method, bool encrypt, const std::uint8_t* key) noexcept
{
	static constexpr std::uint8_t kNoTweak[kTweakSize] = {};
	void* const context = method.new_context(method.provider_context);
	if (context == nullptr)
		return nullptr;
	const auto init = encrypt ? method.encrypt_init : method.decrypt_init;
	if (init(context, key, method.key_size, kNoTweak, kTweakSize, nullptr) == 1)
		return context;
	method.free_context(context);
	return nullptr;
}

} // namespace seal
