#include "evp.hpp"

namespace seal::evp {

const Algorithms& algorithms() noexcept
{
	static const Algorithms fetched = [] {
		Algorithms a{};
		a.aes_256_gcm = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
		a.sha256 = EVP_MD_fetch(nullptr, "SHA2-256", nullptr);
		a.hmac = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
		a.hkdf = EVP_KDF_fetch(nullptr, "HKDF", nullptr);
		a.complete = a.aes_256_gcm != nullptr && a.sha256 != nullptr && a.hmac != nullptr && a.hkdf != nullptr;
		return a;
	}();
	return fetched;
}

} // namespace seal::evp
