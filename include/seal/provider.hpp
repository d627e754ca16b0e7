// Provider: where a KEK lives. It offers operations (create, wrap, unwrap), never key bytes: there is no call that
// returns a KEK. Implementations: PKCS#11 token (src/core/providers/pkcs11_*).
//
// Every call may block on a device or a network, within the deadline where the interface allows one. Only the key
// agent and `pgseal unlock` call providers: never the postmaster, a backend or redo.
#pragma once

#include "seal/key_slot.hpp"
#include "seal/result.hpp"
#include "seal/secret.hpp"

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace seal {

using Deadline = std::chrono::steady_clock::time_point;

// Names one version of a KEK inside a provider.
struct KekRef {
	std::string label; // CKA_LABEL or the KMS's name: for people
	std::string
		id_hex; // CKA_ID or unique identifier: what is used to find it; empty only for an adopted key without one
	WrapMechanism mechanism = WrapMechanism::none; // decided when the KEK is created or adopted, recorded with each key
};

// A key wrapped by a KEK. `iv` is what the provider reports back after the call (some HSMs write their own).
struct WrappedBlob {
	WrapMechanism mechanism = WrapMechanism::none;
	Bytes iv;
	Bytes data; // ciphertext, tag or MAC included
	// Compact form for a KeySlot of an 'hsm' keyring: iv || data, at most kWrappedSeedMax bytes for a 32-byte seed. The
	// length of the IV follows from the mechanism (GCM 12, AES-KW 0, CBC+HMAC 16); compact() of any other length is
	// empty.
	Bytes compact() const;
	static std::optional<WrappedBlob> from_compact(WrapMechanism mechanism, ByteView bytes);
};

struct EndpointStatus {
	std::string endpoint; // "token 'seal', serial ..., slot ..."
	bool ok = false;
	double latency_ms = 0;
	std::optional<std::int64_t> certificate_expires; // microseconds since 1970; none for PKCS#11
	std::string detail;                              // what works, or what is wrong and what to do
};

class Provider {
public:
	virtual ~Provider() = default;
	virtual std::vector<EndpointStatus> check() = 0;
	// Generates an AES-256 key inside, sensitive, never extractable, for the chosen mechanism only. already_exists when
	// a secret key of that label exists, unless `allow_same_label` (rotation: the same label, another id).
	virtual Result<KekRef> create_kek(const std::string& label, bool allow_same_label = false) = 0;
	// Finds exactly one key by label; refuses an extractable, non-sensitive, non-AES-256 or ambiguous one (key_unfit).
	virtual Result<KekRef> adopt_kek(const std::string& label) = 0;
	// Batches: all or nothing. Associated data is bound by the mechanism where it can (GCM, CBC+HMAC); AES-KW cannot,
	// there the caller's own MAC binds it. Secrets are 1..64 bytes
	// (with AES-KW 16..64 in steps of 8, by RFC 3394).
	virtual Result<std::vector<WrappedBlob>> wrap(const KekRef& kek, std::span<const Secret> secrets, ByteView aad) = 0;
	virtual Result<std::vector<Secret>> unwrap(const KekRef& kek, std::span<const WrappedBlob> blobs, ByteView aad) = 0;
};

// kind: "pkcs11". config: the provider's JSON object as text (DESIGN: module, token | serial | uri, pin_file |
// pin_command, environment, slot-independent). Validates the text without touching the device.
Status validate_provider_config(const std::string& kind, const std::string& config_json);
Result<std::unique_ptr<Provider>> open_provider(const std::string& kind, const std::string& config_json);

} // namespace seal
