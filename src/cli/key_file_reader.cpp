#include "key_file_reader.hpp"

#include "file_text.hpp"

#include <cstring>

namespace seal::cli {

namespace {

bool same(KeyForm form, PageMark mark) { return form.cipher == mark.cipher && form.generation == mark.generation; }

} // namespace

bool RelationKey::covers(PageMark mark) const
{
	return same(form, mark) || (state != SlotState::single && same(old_form, mark));
}

bool RelationKey::expects_plain() const
{
	return form.cipher == CipherId::none || (state == SlotState::transition && old_form.cipher == CipherId::none);
}

Result<KeyFiles> KeyFiles::read(const std::vector<DatabaseDirectory>& directories, bool checksums)
{
	KeyFiles files;
	for (const DatabaseDirectory& directory : directories)
		if (Status status = files.read_file(directory, directory.path + "/" + kKeyFileName, checksums); !status)
			return status.error();
	return files;
}

Status KeyFiles::read_file(const DatabaseDirectory& directory, const std::string& path, bool checksums)
{
	Result<std::string> text = read_text_file(path);
	if (!text) {
		if (text.error().code == ErrorCode::not_found)
			return ok_status();
		return text.error();
	}
	const std::size_t whole = text->size() / kPageSize;
	if (text->size() % kPageSize != 0)
		damaged_.push_back({path, static_cast<std::uint32_t>(whole), "short page"});
	for (std::size_t block = 0; block < whole; ++block) {
		auto* page = reinterpret_cast<std::uint8_t*>(text->data()) + block * kPageSize;
		if (page_is_zero(page))
			continue; // the file was just being extended
		std::uint16_t checksum = 0;
		std::memcpy(&checksum, page + kPageChecksumOffset, sizeof checksum);
		const auto number = static_cast<std::uint32_t>(block);
		if (!key_page_valid(page)) {
			damaged_.push_back({path, number, "not a page of a key file"});
			continue;
		}
		if (checksums && checksum != page_checksum(page, number)) {
			damaged_.push_back({path, number, "wrong checksum"});
			continue;
		}
		for (std::size_t i = 0; i < kSlotsPerPage; ++i) {
			KeySlot slot;
			std::memcpy(&slot, page + kSlotOffset + i * kSlotSize, sizeof slot);
			if (slot.state == SlotState::free || slot.rel_node == 0 || slot.dropped_lsn != 0 || slot.dropped_at != 0)
				continue;
			RelationKey& key =
				keys_[{directory.database, slot.tablespace ? slot.tablespace : directory.tablespace, slot.rel_node}];
			if (slot.version >= key.version)
				key = {slot.state, slot.form, slot.old_form, slot.version};
		}
	}
	return ok_status();
}

std::optional<RelationKey> KeyFiles::find(const RelationFile& file) const
{
	const auto key = keys_.find({file.database, file.tablespace, file.rel_node});
	if (key == keys_.end())
		return std::nullopt;
	return key->second;
}

} // namespace seal::cli
