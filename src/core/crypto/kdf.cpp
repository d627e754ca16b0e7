// HKDF (RFC 5869) through EVP_KDF.
#include "evp.hpp"

#include "seal/crypto.hpp"
#include "seal/secret.hpp"

#include <openssl/core_names.h>
#include <openssl/kdf.h>

namespace seal {

static bool derive(int mode, ByteView key, ByteView salt, ByteView info, MutableBytes out) noexcept
{
	const evp::Algorithms& a = evp::algorithms();
	if (!a.complete || out.empty())
		return false;
	const evp::KdfCtx ctx(EVP_KDF_CTX_new(a.hkdf));
	if (!ctx)
		return false;
	char digest[] = "SHA2-256";
	OSSL_PARAM params[6];
	std::size_t n = 0;
	params[n++] = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0);
	params[n++] = OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode);
	params[n++] =
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, const_cast<std::uint8_t*>(key.data()), key.size());
	if (!salt.empty()) // OpenSSL takes an absent salt for the RFC's default
		params[n++] =
			OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, const_cast<std::uint8_t*>(salt.data()), salt.size());
	if (!info.empty())
		params[n++] =
			OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, const_cast<std::uint8_t*>(info.data()), info.size());
	params[n] = OSSL_PARAM_construct_end();
	if (EVP_KDF_derive(ctx.get(), out.data(), out.size(), params) == 1)
		return true;
	wipe(out.data(), out.size());
	return false;
}

bool hkdf_expand(ByteView key, ByteView info, MutableBytes out) noexcept
{
	return key.size() >= kSha256Size && derive(EVP_KDF_HKDF_MODE_EXPAND_ONLY, key, {}, info, out);
}

bool hkdf(ByteView input_key, ByteView salt, ByteView info, MutableBytes out) noexcept
{
	return derive(EVP_KDF_HKDF_MODE_EXTRACT_AND_EXPAND, input_key, salt, info, out);
}

} // namespace seal
