// Errors of the core: a code, a message for the person who reads the log, and a hint that says what to do.
//
// Core functions never throw for expected failures; they return Result<T> (result.hpp) or, on the page path,
// a bool. No field of an Error ever holds a key, a PIN, a passphrase or plaintext.
#pragma once

#include <string>
#include <utility>

namespace seal {

// Travels over the agent protocol: never renumber.
enum class ErrorCode : unsigned char {
	invalid_argument = 1,      // the caller's input is malformed
	not_found = 2,             // a named thing does not exist
	corrupt = 3,               // stored bytes do not parse or fail their checksum
	authentication_failed = 4, // a tag does not verify: wrong key, wrong context or altered bytes (never told apart)
	crypto_failure = 5,        // the cryptographic library refused or failed
	io_error = 6,              // a file, pipe or socket failed
	timeout = 7,               // a deadline passed
	protocol = 8,              // a message of the agent protocol is malformed
	provider_unreachable = 9,  // module missing, token not present, server down
	pin_incorrect = 10,        // the provider rejected the PIN (or it was rejected before and is not tried again)
	key_missing = 11,          // the provider does not hold the key
	key_unfit = 12,            // the key is extractable, of the wrong type or length, or ambiguous
	key_mismatch = 13,         // the provider's key is not the one that wrapped what we hold (swapped KEK)
	unsupported = 14,          // the provider lacks a mechanism, or the operation is not available
	already_exists = 15,       // a thing of that name exists
};

struct Error {
	ErrorCode code;
	std::string message; // lowercase, no full stop
	std::string hint;    // a sentence, may be empty

	Error(ErrorCode c, std::string m, std::string h = {}) : code(c), message(std::move(m)), hint(std::move(h)) {}
};

} // namespace seal
