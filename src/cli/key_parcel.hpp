// Making a parcel (seal/wal_parcel.hpp): WAL keys unwrapped and put into a sealed memory file.
#pragma once

#include "seal/registry.hpp"

namespace seal::cli {

struct KeyParcel {
	int fd = -1;            // close-on-exec; whoever runs the tool opens it up
	bool seals_new = false; // new segments get a key
};

// Asks the providers. `data_directory`: resolved, or empty. `system_identifier`: of the cluster whose WAL it is, 0: any. `overrides`: JSON text, may be
// empty.
Result<KeyParcel> make_key_parcel(const Registry& registry, std::uint64_t system_identifier,
                                  const std::string& data_directory, const std::string& overrides);

} // namespace seal::cli
