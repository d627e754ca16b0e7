// The messages between the server and `pgseal agent` (socket pair), and from `pgseal unlock` to the postmaster (pipe).
//
// A frame: u32 length (little endian, of what follows, at most kMaxFrame), u64 request id, payload. The agent answers
// every request once, in any order, with the same id. Closing the socket ends the agent. Payloads are encoded with
// codec.hpp. A request names the provider's definition whole: the agent keeps no files and no state but open sessions
// and, per (module, token, PIN), that a PIN was rejected: it is not tried again until the configuration or the PIN
// changes.
#pragma once

#include "seal/codec.hpp"
#include "seal/provider.hpp"
#include "seal/registry.hpp"

namespace seal {

inline constexpr std::uint32_t kMaxFrame = 1u << 20;

enum class AgentOp : std::uint8_t { ping = 1, check = 2, create_kek = 3, adopt_kek = 4, wrap = 5, unwrap = 6 };

struct AgentRequest {
	AgentOp op = AgentOp::ping;
	std::string provider_name, provider_kind, provider_config; // config after per-node overrides
	std::uint32_t timeout_ms = 0;
	std::string label;              // create_kek, adopt_kek
	bool allow_same_label = false;  // create_kek: rotation makes another key of the same label
	KekRef kek;                     // wrap, unwrap
	Bytes aad;                      // wrap, unwrap
	std::vector<Secret> secrets;    // wrap
	std::vector<WrappedBlob> blobs; // unwrap
	Bytes encode() const;           // holds secrets: wipe_message() after use
	static Result<AgentRequest> decode(ByteView payload);
};
struct AgentReply {
	std::optional<Error> error;
	std::vector<EndpointStatus> endpoints; // check
	KekRef kek;                            // create_kek, adopt_kek
	std::vector<WrappedBlob> blobs;        // wrap
	std::vector<Secret> secrets;           // unwrap
	Bytes encode() const;
	static Result<AgentReply> decode(ByteView payload);
};

// What `pgseal unlock` writes to its standard output (one frame, id 0), and nothing else.
struct UnlockedKey {
	std::uint32_t keyring_id = 0, version = 0;
	Secret key; // kKeyringKeySize bytes
};
struct UnlockReply {
	std::optional<Error> error; // names provider and keyring; set: no keys
	std::vector<UnlockedKey> keys;
	Bytes encode() const;
	static Result<UnlockReply> decode(ByteView payload);
};

// Blocking frame I/O on a descriptor, EINTR-safe; timeout by poll(). io_error / timeout / protocol. Writing to a pipe
// may raise SIGPIPE: the process ignores it (a socket never does). The payload read may hold secrets: wipe_message()
// after decoding.
Status write_frame(int fd, std::uint64_t id, ByteView payload, Deadline deadline);
Result<std::pair<std::uint64_t, Bytes>> read_frame(int fd, Deadline deadline);

// Unwraps every key of every keyring with the KEK versions the registry names (used by `pgseal unlock`, and by the
// agent's worker request by request). Verifies each KEK's check value first: key_mismatch when the KEK was swapped.
UnlockReply unlock_registry(const Registry& registry, const std::string& overrides_json);
// Merges per-node overrides ({"provider name": {member: value, ...}, ...}, may be empty text) into a provider's config.
Result<std::string> merge_overrides(const std::string& provider_name, const std::string& config_json,
                                    const std::string& overrides_json);

} // namespace seal
