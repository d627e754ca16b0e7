// OpenSSL algorithms and handles, fetched once per process image and never freed: fetching costs microseconds and
// locks, and the page path may need an algorithm at any time until the process is gone. The handles are immutable and
// survive a fork.
#pragma once

#include <openssl/evp.h>
#include <openssl/kdf.h>

#include <memory>

namespace seal::evp {

struct Algorithms {
	EVP_CIPHER* aes_256_gcm;
	EVP_MD* sha256;
	EVP_MAC* hmac;
	EVP_KDF* hkdf;
	bool complete; // every one was found
};
const Algorithms& algorithms() noexcept;

template <auto Free> struct Deleter {
	template <class T> void operator()(T* handle) const noexcept { Free(handle); }
};
using CipherCtx = std::unique_ptr<EVP_CIPHER_CTX, Deleter<EVP_CIPHER_CTX_free>>;
using MacCtx = std::unique_ptr<EVP_MAC_CTX, Deleter<EVP_MAC_CTX_free>>;
using KdfCtx = std::unique_ptr<EVP_KDF_CTX, Deleter<EVP_KDF_CTX_free>>;

} // namespace seal::evp
