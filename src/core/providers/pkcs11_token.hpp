// Finding a token by what is printed on it, label or serial, never by slot number: slots are renumbered when a token is
// initialised, and a network HSM may present them in another order.
#pragma once

#include "pkcs11_module.hpp"

namespace seal::pkcs11 {

struct TokenInfo {
	CK_SLOT_ID slot = 0;
	std::string label, serial, manufacturer, model;
	CK_FLAGS flags = 0;
};

// provider_unreachable when no token matches (the message lists what is there), invalid_argument when several do.
Result<TokenInfo> find_token(const Module& module, const TokenSelector& selector);

// The flags as they are now (PIN attempts left); none when the token does not answer.
std::optional<CK_FLAGS> token_flags(const Module& module, CK_SLOT_ID slot);

// The operating system user of this process, for messages: "postgres (uid 104)".
std::string user_text();

} // namespace seal::pkcs11
