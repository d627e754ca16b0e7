// The few cryptographic operations the core offers to its own parts, to providers and to the server's side: no OpenSSL
// type, no <string>, plain arguments.
//
// Every function returns false when the library refuses; aead_open() also when the tag does not verify (output is then
// wiped). Outputs of a failed call hold no key material. None raises or blocks; all may allocate on OpenSSL's heap, so
// none belongs into a critical section. Algorithms are fetched once per process image and survive a fork; no state of a
// random generator is ours.
#pragma once

#include "seal/bytes.hpp"

#include <cstddef>
#include <cstdint>

namespace seal {

inline constexpr std::size_t kSha256Size = 32;
inline constexpr std::size_t kAeadKeySize = 32;
inline constexpr std::size_t kAeadNonceSize = 12;
inline constexpr std::size_t kAeadTagSize = 16;

[[nodiscard]] bool random_bytes(MutableBytes out) noexcept;         // nonces, identifiers
[[nodiscard]] bool random_private_bytes(MutableBytes out) noexcept; // keys (OpenSSL's private generator)

[[nodiscard]] bool sha256(ByteView data, std::uint8_t digest[kSha256Size]) noexcept;
[[nodiscard]] bool hmac_sha256(ByteView key, ByteView data, std::uint8_t mac[kSha256Size]) noexcept;

// HKDF with SHA-256 (RFC 5869). Expand: `key` is the pseudorandom key, at least 32 bytes; `out` at most 255 * 32 bytes.
[[nodiscard]] bool hkdf_expand(ByteView key, ByteView info, MutableBytes out) noexcept;
[[nodiscard]] bool hkdf(ByteView input_key, ByteView salt, ByteView info,
                        MutableBytes out) noexcept; // extract and expand

// AES-256-GCM (SP 800-38D): 32-byte key, 12-byte nonce, 16-byte tag after the ciphertext.
// seal: out.size() == plaintext.size() + kAeadTagSize. open: out.size() == sealed.size() - kAeadTagSize. No overlap.
[[nodiscard]] bool aead_seal(const std::uint8_t key[kAeadKeySize], const std::uint8_t nonce[kAeadNonceSize],
                             ByteView aad, ByteView plaintext, MutableBytes out) noexcept;
[[nodiscard]] bool aead_open(const std::uint8_t key[kAeadKeySize], const std::uint8_t nonce[kAeadNonceSize],
                             ByteView aad, ByteView sealed, MutableBytes out) noexcept;

// Compares without telling by time where the difference lies.
bool equal_constant_time(ByteView a, ByteView b) noexcept;

} // namespace seal
