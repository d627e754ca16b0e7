// The registry that a tool's keys come from: a data directory's file, or a server's seal.export_wal_keys().
#pragma once

#include "seal/registry.hpp"

namespace seal::cli {

// not_found: there is no such file (the cluster has no pg_seal).
Result<Registry> registry_of_directory(const std::string& data_directory);

// Over a connection of libpq's; a password comes from libpq's own places. The providers' settings are left out (seal/wal_registry.hpp):
// they must come from this machine's overrides.
struct ServerRegistry {
	Registry registry;
	std::uint64_t system_identifier = 0;
};
Result<ServerRegistry> registry_of_server(const std::string& conninfo);

} // namespace seal::cli
