// Cryptoki (PKCS#11 2.40) as this project uses it: the constants and types of p11-kit's header, and the names of
// return codes. Only files named pkcs11_* include it; the rest of the core sees provider.hpp.
#pragma once

#include <p11-kit/pkcs11.h>

#include <string>

namespace seal::pkcs11 {

// "CKR_PIN_INCORRECT (0xa0)"; codes without a name here as the number alone.
std::string rv_text(CK_RV rv);

// Session or device is gone or in an unknown state: worth one more try with a new session.
bool rv_is_stale(CK_RV rv) noexcept;
// What a token answers when a ciphertext does not verify. Tokens differ, and some of these codes also mean a broken
// device: the caller tells the two apart with a trial (rv_may_be_device()).
bool rv_is_authentication(CK_RV rv) noexcept;
bool rv_may_be_device(CK_RV rv) noexcept;

} // namespace seal::pkcs11
