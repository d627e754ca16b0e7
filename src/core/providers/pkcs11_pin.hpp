// Where a PIN comes from, and the memory of rejected ones.
//
// A real HSM locks after a few wrong PINs. So a PIN that a token has rejected is not sent to that token again by this
// process: it is remembered as an HMAC under a random key of the process, never as the PIN.
#pragma once

#include "pkcs11_config.hpp"

#include "seal/provider.hpp"
#include "seal/secret.hpp"

#include <array>

namespace seal::pkcs11 {

inline constexpr std::size_t kMaxPinSize = 255;

struct Pin {
	Secret value;
	std::string warning; // "pin file ... is readable by its group", or empty
};

// Reads the file (one trailing newline is dropped) or runs the command (first line of its output). A file that others
// can read, or that its group can write, is refused. io_error, timeout, invalid_argument.
Result<Pin> read_pin(const PinSource& source, Deadline deadline);

using PinDigest = std::array<std::uint8_t, 32>;
// Names (module, token, PIN) without revealing it. False: the library refused.
[[nodiscard]] bool pin_digest(const std::string& module_path, const std::string& serial, const Secret& pin,
                              PinDigest& out);
void remember_rejected_pin(const PinDigest& digest);
bool pin_was_rejected(const PinDigest& digest);

} // namespace seal::pkcs11
