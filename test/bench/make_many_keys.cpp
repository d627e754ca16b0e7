// Writes a key file with many records, to measure the keymap at a million relations:
//   make_many_keys EXISTING-KEY-FILE COUNT [FIRST-RELFILENODE]
// appends COUNT live records (of relations that do not exist) to the key file of a stopped server, with valid pages.
#include "seal/key_slot.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>

int main(int argc, char** argv)
{
	using namespace seal;
	alignas(8) std::uint8_t page[kPageSize];
	const long count = argc == 3 || argc == 4 ? std::strtol(argv[2], nullptr, 10) : 0;
	const long first = argc == 4 ? std::strtol(argv[3], nullptr, 10) : 1000000000;
	std::FILE* file = count > 0 ? std::fopen(argv[1], "r+b") : nullptr;
	if (!file || std::fread(page, kPageSize, 1, file) != 1 || std::fseek(file, 0, SEEK_END) != 0) {
		std::fprintf(stderr, "usage: make_many_keys EXISTING-KEY-FILE COUNT [FIRST-RELFILENODE]\n");
		return 1;
	}
	std::uint8_t file_id[16];
	std::memcpy(file_id, page + kPageHeaderSize + offsetof(KeyFilePageInfo, file_id), sizeof file_id);
	auto number = static_cast<std::uint32_t>(std::ftell(file) / static_cast<long>(kPageSize));
	for (long made = 0; made < count; number++) {
		key_page_init(page, file_id);
		for (std::size_t i = 0; i < kSlotsPerPage && made < count; i++, made++) {
			KeySlot* slot = key_page_slot(page, i);
			slot->rel_node = static_cast<std::uint32_t>(first + made);
			slot->version = 1;
			slot->format = kSlotFormat;
			slot->state = SlotState::single;
			slot->form = {CipherId::aes_256_xts, 0};
			slot->created_at = 4000000000u; // too young for the reaper to look for its file
		}
		const std::uint16_t checksum = page_checksum(page, number);
		std::memcpy(page + kPageChecksumOffset, &checksum, sizeof checksum);
		if (std::fwrite(page, kPageSize, 1, file) != 1)
			return 1;
	}
	return std::fclose(file) == 0 ? 0 : 1;
}
