// WAL keys at rest: one 32-byte seed for each generation, wrapped by a keyring key, in the registry (section "wal", entry "keys").
//
// Wrapped: nonce (12) || ciphertext (32) || tag (16), AES-256-GCM under HKDF-Expand(keyring key, "pg_seal wal wrap v1"), associated data
// "pg_seal wal key v1" || keyring uuid (16) || generation (u32 LE) || cipher id (1). Generations only grow, from 1, over the life of a cluster; 0 means
// WAL in clear. The key after the active one is made and logged in advance ("next").
#pragma once

#include "seal/crypto.hpp"
#include "seal/registry.hpp"
#include "seal/wal_cipher.hpp"

namespace seal {

inline constexpr std::size_t kWrappedWalSeedSize = kAeadNonceSize + kDekSeedSize + kAeadTagSize;

// A fresh random seed, wrapped. Fills def.wrapped; generation, cipher and keyring fields are set before. False: the library refused.
[[nodiscard]] bool wal_key_make(WalKeyDef& def, const std::string& keyring_uuid_hex, const std::uint8_t keyring_key[kKeyringKeySize],
                                std::uint8_t key[kWalKeySize]) noexcept;
// Unwraps and expands. False: not authentic, or the library refused.
[[nodiscard]] bool wal_key_open(const WalKeyDef& def, const std::string& keyring_uuid_hex, const std::uint8_t keyring_key[kKeyringKeySize],
                                std::uint8_t key[kWalKeySize]) noexcept;

} // namespace seal
