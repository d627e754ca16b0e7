// `pgseal exec -- pg_upgrade`: what pg_upgrade does not carry over of a sealed cluster, carried around it.
//
//   before   both servers have the library, the old one is shut down and idle, its keys can be unwrapped, the new cluster has none of its own;
//            pg_seal/ (registry, audit log) and copies of the old key files (pg_seal/import) go into the new cluster
//   during   the new server, started for a binary upgrade, gives each relation that it makes the old one's record (src/pg/keymap/key_import.hpp)
//   after    every sealed page in the new cluster has its key, the same as in the old one; pg_seal/import goes
//
// The old cluster is only read: whatever goes wrong before pg_upgrade's own point of no return (it says so in link mode), it starts as before, and the
// new one is made again with initdb. The only command of pgseal that writes into a data directory, and only into the new one.
#pragma once

#include "key_file_reader.hpp"
#include "stock_tool.hpp"

#include "seal/registry.hpp"

namespace seal::cli {

struct UpgradePaths {
	std::string old_data, new_data, old_bin, new_bin;  // resolved
	std::vector<std::string> old_options, new_options; // -c settings for each server, as pg_upgrade was given them
	bool only_check = false;
};

Result<UpgradePaths> upgrade_paths(const ToolWords& words); // options, else PGDATAOLD and their like

// The old cluster's whole registry, once everything has been checked that can be before the start.
Result<Registry> check_before_upgrade(const UpgradePaths& paths, const std::string& overrides);
// Which relations of the old cluster have which key: noted before, because in link mode pg_upgrade puts the old control file away.
struct OldKey {
	std::uint32_t database, tablespace, rel_node;
	RelationKey key;
};
using OldKeys = std::vector<OldKey>;
Result<OldKeys> read_old_keys(const UpgradePaths& paths);

Status carry_into_new_cluster(const UpgradePaths& paths);
// How many relations of the new cluster have their key from the old one. corrupt: some have another than their pages are sealed with.
Result<std::size_t> check_after_upgrade(const UpgradePaths& paths, const OldKeys& old_keys);
Status remove_import(const UpgradePaths& paths);

} // namespace seal::cli
