#include "agent_worker_keyfiles.hpp"

#include "seal/page_cipher.hpp"

extern "C" {
#include "common/relpath.h"
}

#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <string>
#include <unistd.h>
#include <vector>

namespace seal::pg {

namespace {

constexpr int kReadTries = 5;

std::vector<std::string> entries_of(const std::string& path)
{
	std::vector<std::string> names;
	const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(path.c_str()), closedir);
	if (directory)
		while (const dirent* entry = readdir(directory.get()))
			if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9') // databases and tablespaces are named by their OIDs
				names.emplace_back(entry->d_name);
	return names;
}

std::vector<std::string> key_files()
{
	std::vector<std::string> files{std::string("global/") + kKeyFileName};
	const auto add_databases = [&](const std::string& parent) {
		for (const std::string& database : entries_of(parent))
			files.push_back(parent + "/" + database + "/" + kKeyFileName);
	};
	add_databases("base");
	for (const std::string& tablespace : entries_of("pg_tblspc"))
		add_databases("pg_tblspc/" + tablespace + "/" + TABLESPACE_VERSION_DIRECTORY);
	return files;
}

// False: the file ends before this page.
bool read_page(int fd, std::uint32_t block, std::uint8_t* page, bool& good)
{
	good = false;
	for (int i = 0; i < kReadTries && !good; i++) {
		if (pread(fd, page, kPageSize, static_cast<off_t>(block) * static_cast<off_t>(kPageSize)) !=
		    static_cast<ssize_t>(kPageSize))
			return false;
		std::uint16_t stored;
		memcpy(&stored, page + kPageChecksumOffset, sizeof stored);
		good = key_page_valid(page) && stored == page_checksum(page, block);
	}
	return true;
}

bool wrapped_by_provider(const KeySlot& slot) noexcept
{
	return slot.state != SlotState::free && slot.mechanism > WrapMechanism::local_aes_gcm &&
	       slot.wrapped_size <= kWrappedSeedMax && slot.old_wrapped_size <= kWrappedSeedMax;
}

} // namespace

void visit_hsm_slots(const std::function<void(const KeySlot&)>& visit)
{
	alignas(KeySlot) static std::uint8_t page[kPageSize];
	for (const std::string& path : key_files()) {
		const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		bool good;
		for (std::uint32_t block = 0; read_page(fd, block, page, good); block++)
			for (std::size_t i = 0; good && i < kSlotsPerPage; i++)
				if (const KeySlot& slot = *key_page_slot(page, i); wrapped_by_provider(slot))
					visit(slot);
		close(fd);
	}
}

} // namespace seal::pg
