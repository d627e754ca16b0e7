// Key files (pg_seal_keys), read without any key: which relations have a DEK, and in which form their pages may be.
#pragma once

#include "data_files.hpp"

#include "seal/key_slot.hpp"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace seal::cli {

struct RelationKey {
	SlotState state = SlotState::free;
	KeyForm form{}, old_form{};
	std::uint64_t version = 0;
	bool covers(PageMark mark) const; // a page sealed under this mark has its key here
	bool expects_plain() const;       // plain pages are legitimate: a form is "plain"
};

struct DamagedKeyPage {
	std::string path;
	std::uint32_t block;
	const char* reason;
};

class KeyFiles {
public:
	// Reads the key file of each directory that has one: it stands in its database's default directory.
	static Result<KeyFiles> read(const std::vector<DatabaseDirectory>& directories, bool checksums);

	// nullopt: no live key.
	std::optional<RelationKey> find(const RelationFile& file) const;
	const std::vector<DamagedKeyPage>& damaged() const { return damaged_; }
	std::size_t size() const { return keys_.size(); }

private:
	struct Place {
		std::uint32_t database, tablespace, rel_node;
		auto operator<=>(const Place&) const = default;
	};
	Status read_file(const DatabaseDirectory& directory, const std::string& path, bool checksums);

	std::map<Place, RelationKey> keys_; // tablespace 0 resolved to that of the key file's directory
	std::vector<DamagedKeyPage> damaged_;
};

} // namespace seal::cli
