// The entries of the registry as JSON (docs/formats.md, "Registry"). Reading checks every member it knows; writing
// starts from the entry that is there, so that members of a newer version survive.
#pragma once

#include "json_text.hpp"

#include "seal/registry.hpp"

namespace seal::registry_json {

inline constexpr char kWalKeysEntry[] = "keys"; // the one entry of section "wal"

// False: a member is missing, of the wrong type or out of range. `key` is the entry's name in its section.
bool read(const std::string& key, const Json& entry, ProviderDef& out);
bool read(const std::string& key, const Json& entry, KeyringDef& out);
bool read(const std::string& key, const Json& entry, TablespacePolicy& out);
bool read(const std::string& key, const Json& entry, OperationDef& out);
bool read(const std::string& key, const Json& entry, WalKeysDef& out);

void write(const ProviderDef& def, Json& entry);
void write(const KeyringDef& def, Json& entry);
void write(const TablespacePolicy& def, Json& entry);
void write(const OperationDef& def, Json& entry);
void write(const WalKeysDef& def, Json& entry);

} // namespace seal::registry_json
