// KEKs in a token: making one, taking over an existing one, finding the one that a KekRef names, and proving that it
// works.
//
// Invariant: a KEK that passes here is AES-256, sensitive and not extractable; one made here is also local, always
// sensitive and never extractable, by what the token itself says after creation.
//
// A function that fails by a Cryptoki call stores its code in `rv` (CKR_OK when the failure is not the token's).
#pragma once

#include "pkcs11_mechanism.hpp"
#include "pkcs11_session.hpp"

namespace seal::pkcs11 {

struct KekContext {
	Call& call;
	const Session& session; // for messages, slot
	CK_RV& rv;
	Error failed(CK_RV code) const; // the message for a failed call; stores the code
};

inline constexpr char kMacLabelSuffix[] = " mac"; // the HMAC key of aes-cbc-pad-hmac: "<label> mac", same CKA_ID

// key_missing, key_unfit. The KEK by id (by label when it has none), and its MAC key if the mechanism needs one.
Result<KekHandles> locate_kek(KekContext& context, const KekRef& kek);
// already_exists unless allow_same_label; unsupported when no mechanism of the list works.
Result<KekRef> generate_kek(KekContext& context, const std::string& label, bool allow_same_label,
                            const std::vector<WrapMechanism>& preference);
// key_missing, key_unfit, unsupported.
Result<KekRef> adopt_existing_kek(KekContext& context, const std::string& label,
                                  const std::vector<WrapMechanism>& preference);

// Wraps and unwraps a random secret, and sees an altered blob refused. CKR_OK, or the code of the failure.
CK_RV try_mechanism(Call& call, const Mechanism& mechanism, const KekHandles& keys);

} // namespace seal::pkcs11
