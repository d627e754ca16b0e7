// A PKCS#11 provider's definition, read from its JSON text and checked as far as that is possible without the device.
//
//   {"module": "/path/module.so", "token": "label" | "serial": "number" | "uri": "pkcs11:...",
//    "pin_file": "/path" | "pin_command": "shell command", "environment": {"NAME": "value"},
//    "mechanisms": ["aes-gcm", "aes-key-wrap", "aes-cbc-pad-hmac"]}
//
// Any other member is an error that names it: a PIN has no place here.
#pragma once

#include "seal/key_slot.hpp"
#include "seal/result.hpp"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace seal::pkcs11 {

using Environment = std::map<std::string, std::string>;

struct TokenSelector {
	std::optional<std::string> label, serial, manufacturer, model;
	std::string text() const; // "'seal'", "with serial '1234'": for messages
};

struct PinSource {
	std::string file, command; // at most one is set
	bool configured() const noexcept { return !file.empty() || !command.empty(); }
};

struct Config {
	std::string module_path;
	TokenSelector token;
	PinSource pin;
	Environment environment;
	std::optional<std::string> only_label; // a URI's `object`: no other KEK label is served
	std::vector<WrapMechanism> mechanisms; // in order of preference
};

Result<Config> parse_config(const std::string& json_text);

// "aes-gcm", "aes-key-wrap", "aes-cbc-pad-hmac"
const char* mechanism_name(WrapMechanism mechanism) noexcept;

} // namespace seal::pkcs11
