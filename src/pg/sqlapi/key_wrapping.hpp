// What the SQL functions ask of a provider, through the key agent. Never under an LWLock: every call may take pg_seal.provider_timeout.
//
// A key that was wrapped is unwrapped again and compared before anybody relies on it: a provider that returns rubbish must not cost
// a key. All throw SealError (the provider's own error) or PgError (cancelled). The keys are Secrets: wiped when they go.
#pragma once

#include "../agent_client/agent_client.hpp"
#include "../pg.hpp"

#include "seal/agent_protocol.hpp"

#include <string>

namespace seal::pg {

AgentRequest request_to(const ProviderDef& provider, AgentOp op);

Secret new_keyring_key(); // 32 bytes of OpenSSL's private generator
std::string new_uuid_hex();

WrappedBlob wrap_checked(const ProviderDef& provider, const KekRef& kek, const Secret& key, const Bytes& aad);
Secret unwrap_key(const ProviderDef& provider, const KekRef& kek, const WrappedBlob& blob, const Bytes& aad);

// Creates a KEK in the provider (or adopts the one that is there) and its check value.
enum class KekSource { created, adopted };
KekVersion make_kek_version(const ProviderDef& provider, KekSource source, const std::string& label,
                            const std::string& keyring_uuid, std::uint32_t version);
// key_mismatch when the provider's key is not the one that made the check value; key_missing, provider_unreachable ...
void verify_kek(const ProviderDef& provider, const KeyringDef& keyring, const KekVersion& kek);

// Waits until the agent's worker has put the key into the vault; false when pg_seal.provider_timeout passed. Can be cancelled.
bool wait_for_keyring_key(std::uint32_t keyring_id, std::uint32_t version);

const char* mechanism_name(WrapMechanism mechanism) noexcept;
const char* cipher_name(CipherId cipher) noexcept; // "aes-256-xts"; "none"

} // namespace seal::pg
