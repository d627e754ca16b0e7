// The part of a registry that opening WAL takes: WAL keys, the keyrings that wrap them, and the providers of those.
//
// What `pgseal exec` unlocks, and what seal.export_wal_keys() hands to a tool on another machine. Keyring keys that wrap no WAL
// key, and policies, operations and counters are left out. Everything secret in it is still wrapped.
#pragma once

#include "seal/registry.hpp"

namespace seal {

// corrupt: a WAL key names a keyring, or a version of its key, that the registry does not hold.
Result<Registry> wal_part(const Registry& whole);

// The same with the providers' settings removed: they name files and commands of the machine that the registry comes from, and whoever
// takes a registry from elsewhere must not load or run what it names.
Result<Registry> without_provider_settings(const Registry& whole);

} // namespace seal
