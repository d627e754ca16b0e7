// Random bytes come from OpenSSL's generators, which notice a fork and reseed; nothing is drawn ahead and kept here.
#include "seal/crypto.hpp"

#include <openssl/rand.h>

namespace seal {

bool random_bytes(MutableBytes out) noexcept { return RAND_bytes_ex(nullptr, out.data(), out.size(), 128) == 1; }

bool random_private_bytes(MutableBytes out) noexcept
{
	return RAND_priv_bytes_ex(nullptr, out.data(), out.size(), 256) == 1;
}

} // namespace seal
