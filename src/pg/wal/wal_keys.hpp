// WAL keys in the server: from the registry into the vault (wrapped there by a keyring key, expanded here), and from the vault into the few
// cipher contexts that a process has.
//
// The contexts are made once, before any fork; taking another key into one allocates nothing, so that a process inside a critical section
// may meet any generation that the vault holds.
#pragma once

#include "../pg.hpp"

#include "seal/wal_segment_io.hpp"

namespace seal {
class Registry;
}

namespace seal::pg {

void wal_ciphers_make(); // from _PG_init; FATAL when the cryptographic library refuses
WalKeys& wal_keys() noexcept;

// Puts every WAL key whose keyring key the vault holds into the vault; the others are left for a later call. Idempotent. Throws SealError
// when a key does not verify.
void wal_keys_load(const Registry& registry);
// The same with the registry as it lies on disk, reporting what is wrong as a WARNING.
void wal_keys_load_again() noexcept;

// The startup process met a page whose key is not loaded: waits, saying so, while the registry names the key and its keyring. False: no
// such key. Elsewhere: false at once.
bool wal_key_await(uint16 mark);

} // namespace seal::pg
