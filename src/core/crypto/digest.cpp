#include "evp.hpp"

#include "seal/crypto.hpp"
#include "seal/secret.hpp"

#include <openssl/core_names.h>
#include <openssl/crypto.h>

namespace seal {

bool sha256(ByteView data, std::uint8_t digest[kSha256Size]) noexcept
{
	const evp::Algorithms& a = evp::algorithms();
	unsigned int size = 0;
	return a.complete && EVP_Digest(data.data(), data.size(), digest, &size, a.sha256, nullptr) == 1 &&
	       size == kSha256Size;
}

bool hmac_sha256(ByteView key, ByteView data, std::uint8_t mac[kSha256Size]) noexcept
{
	const evp::Algorithms& a = evp::algorithms();
	if (!a.complete)
		return false;
	const evp::MacCtx ctx(EVP_MAC_CTX_new(a.hmac));
	char digest[] = "SHA2-256";
	const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
	                             OSSL_PARAM_construct_end()};
	std::size_t size = 0;
	if (ctx && EVP_MAC_init(ctx.get(), key.data(), key.size(), params) == 1 &&
	    EVP_MAC_update(ctx.get(), data.data(), data.size()) == 1 &&
	    EVP_MAC_final(ctx.get(), mac, &size, kSha256Size) == 1 && size == kSha256Size)
		return true;
	wipe(mac, kSha256Size);
	return false;
}

bool equal_constant_time(ByteView a, ByteView b) noexcept
{
	return a.size() == b.size() && (a.empty() || CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0);
}

} // namespace seal
