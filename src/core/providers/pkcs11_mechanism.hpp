// How a secret is wrapped under a KEK inside a token: three ways, in the order in which they are preferred.
//
//   aes-gcm           C_Encrypt/C_Decrypt, 96-bit IV, 128-bit tag, associated data bound by the tag.
//   aes-key-wrap      C_WrapKey/C_UnwrapKey (RFC 3394) of the secret as a session object. No associated data.
//   aes-cbc-pad-hmac  C_Encrypt with CBC and PKCS#7 padding, then HMAC-SHA-256 under a second key in the token, cut to
//                     128 bits, over IV || ciphertext || associated data || ciphertext length (u32 LE); verified
//                     before decryption.
//
// A KEK has the usage attributes of its mechanism only. A key that may both wrap and decrypt can be made to give
// itself away (wrapped under itself, then decrypted).
//
// Functions return Cryptoki codes; Call::function names the call that failed. After any failure the session is not
// reused.
#pragma once

#include "pkcs11_objects.hpp"

#include "seal/provider.hpp"

namespace seal::pkcs11 {

struct KekHandles {
	CK_OBJECT_HANDLE kek = CK_INVALID_HANDLE;
	CK_OBJECT_HANDLE mac = CK_INVALID_HANDLE; // aes-cbc-pad-hmac only
};

class Mechanism {
public:
	virtual ~Mechanism() = default;
	virtual WrapMechanism id() const noexcept = 0;
	virtual bool offered(CK_FUNCTION_LIST* api, CK_SLOT_ID slot) const = 0;
	virtual bool by_wrapping() const noexcept = 0; // needs CKA_WRAP/UNWRAP; otherwise CKA_ENCRYPT/DECRYPT
	virtual bool needs_mac_key() const noexcept { return false; }
	virtual bool accepts_size(std::size_t secret_size) const noexcept = 0;
	virtual CK_RV wrap(Call& call, const KekHandles& keys, const Secret& secret, ByteView aad,
	                   WrappedBlob& out) const = 0;
	virtual CK_RV unwrap(Call& call, const KekHandles& keys, const WrappedBlob& blob, ByteView aad,
	                     Secret& out) const = 0;
};

const Mechanism* find_mechanism(WrapMechanism id) noexcept; // nullptr for one that is not PKCS#11's
bool token_offers(CK_FUNCTION_LIST* api, CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_FLAGS flags);

extern const Mechanism& kGcmMechanism;
extern const Mechanism& kKeyWrapMechanism;
extern const Mechanism& kCbcHmacMechanism;

} // namespace seal::pkcs11
