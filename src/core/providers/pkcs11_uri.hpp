// A strict reader of PKCS#11 URIs (RFC 7512), for the members that select a token and say how to reach it.
//
// Refused, each with an error that names the attribute and never its value: pin-value (a PIN would end in SQL and in
// logs), slot-id and slot-* (slot numbers change when a token is initialised), type other than secret-key, unknown or
// repeated attributes. `id` is refused too: which key is used is recorded with each keyring.
#pragma once

#include "seal/result.hpp"

#include <optional>
#include <string>
#include <string_view>

namespace seal::pkcs11 {

struct Uri {
	std::optional<std::string> token, serial, manufacturer, model; // select the token
	std::optional<std::string> object;                             // the only KEK label that the provider may serve
	std::optional<std::string> module_path, pin_file;              // pin_file: from pin-source=file:...
};

Result<Uri> parse_uri(std::string_view text);

} // namespace seal::pkcs11
