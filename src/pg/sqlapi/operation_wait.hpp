// Waiting for an operation, and telling how far it is.
#pragma once

#include "../pg.hpp"

#include "seal/registry.hpp"

#include <optional>
#include <string>

namespace seal::pg {

std::string size_text(std::uint64_t bytes); // "512 kB", "9.6 MB", "1.2 GB"

// What is known of an operation that runs now.
struct LiveOperation {
	std::uint64_t pages_done, pages_total, relations_done, failed_relations, wal_bytes;
	double pages_per_second;
	std::string database; // by name, UTF-8; empty: between databases, or dropped meanwhile
	std::string relation, phase, waiting_for, error;
	std::int64_t left_us() const; // -1: not to be told
};
std::optional<LiveOperation> live_operation(std::uint64_t id); // nothing: it does not run on this server now

// Returns when the operation is done. ERROR when it failed or was cancelled. A NOTICE now and then. Cancelling the statement leaves the operation
// running, and says so. The caller holds no lock that the operation may need.
void wait_for_operation(std::uint64_t id);

} // namespace seal::pg
