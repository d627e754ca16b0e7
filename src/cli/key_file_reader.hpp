// Key files (pg_seal_keys), read without any key: which relations have a DEK, and in which form their pages may be.
#pragma once

#include "data_files.hpp"

#include "seal/key_slot.hpp"

#include <array>
#include <ctime>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace seal::cli {

struct RelationKey {
	SlotState state = SlotState::free;
	KeyForm form{}, old_form{};
	std::uint64_t version = 0;
	std::array<std::uint8_t, kKeyCheckSize> key_check{}; // of the form's DEK: equal checks, equal keys
	bool has_key() const;                                // not merely a record that says "plain"
	bool covers(PageMark mark) const;                    // a page sealed under this mark has its key here
	bool expects_plain() const;                          // plain pages are legitimate: a form is "plain"
};

struct DamagedKeyPage {
	std::string path;
	std::uint32_t block;
	const char* reason;
};

class KeyFiles {
public:
	// Reads the key file of each directory that has one: it stands in its database's default directory. `online`: the server may be
	// writing them, so a page that looks damaged is read again.
	static Result<KeyFiles> read(const std::vector<DatabaseDirectory>& directories, bool checksums, bool online);

	// Reads once more what has changed of one database's key files since. What was known of a relation that is gone meanwhile stays.
	Status refresh(std::uint32_t database);

	// nullopt: no live record.
	std::optional<RelationKey> find(const RelationFile& file) const;
	// Every live record.
	template <class Visit> void each(Visit visit) const
	{
		for (const auto& [place, key] : keys_)
			visit(place.database, place.tablespace, place.rel_node, key);
	}
	const std::vector<DamagedKeyPage>& damaged() const { return damaged_; }
	std::size_t size() const; // records with a key

private:
	struct Place {
		std::uint32_t database, tablespace, rel_node;
		auto operator<=>(const Place&) const = default;
	};
	struct File {
		DatabaseDirectory directory;
		std::string path;
		timespec changed{}; // as of the last reading
		std::int64_t size = -1;
	};
	Status read_file(File& file);
	void take_page(const File& file, std::uint8_t* page);

	bool checksums_ = false, online_ = false;
	std::vector<File> files_;           // those that are there, and those that may come into being
	std::map<Place, RelationKey> keys_; // tablespace 0 resolved to that of the key file's directory
	std::vector<DamagedKeyPage> damaged_;
};

} // namespace seal::cli
