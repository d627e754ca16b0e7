#include "key_file_reader.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

namespace seal::cli {

namespace {

constexpr int kAttempts = 5; // at a page that the server may be writing ...
constexpr int kPauseMs = 20; // ... this far apart
constexpr std::size_t kChunkPages = 128;

bool same(KeyForm form, PageMark mark) { return form.cipher == mark.cipher && form.generation == mark.generation; }

struct Descriptor {
	int fd;
	explicit Descriptor(int opened) : fd(opened) {}
	Descriptor(const Descriptor&) = delete;
	~Descriptor()
	{
		if (fd >= 0)
			close(fd);
	}
};

// Null: the page is in order.
const char* damage_of(const std::uint8_t* page, std::uint32_t block, bool checksums)
{
	if (page_is_zero(page))
		return nullptr; // the file was just being extended
	std::uint16_t checksum = 0;
	std::memcpy(&checksum, page + kPageChecksumOffset, sizeof checksum);
	if (!key_page_valid(page))
		return "not a page of a key file";
	if (checksums && checksum != page_checksum(page, block))
		return "wrong checksum";
	return nullptr;
}

Error failed(const char* what, const std::string& path)
{
	return {ErrorCode::io_error, std::string("could not ") + what + " \"" + path + "\": " + std::strerror(errno)};
}

} // namespace

bool RelationKey::has_key() const
{
	return form.cipher != CipherId::none || (state != SlotState::single && old_form.cipher != CipherId::none);
}

bool RelationKey::covers(PageMark mark) const
{
	return same(form, mark) || (state != SlotState::single && same(old_form, mark));
}

bool RelationKey::expects_plain() const
{
	return form.cipher == CipherId::none || (slot_in_transition(state) && old_form.cipher == CipherId::none);
}

Result<KeyFiles> KeyFiles::read(const std::vector<DatabaseDirectory>& directories, bool checksums, bool online)
{
	KeyFiles files;
	files.checksums_ = checksums;
	files.online_ = online;
	for (const DatabaseDirectory& directory : directories)
		files.files_.push_back({directory, directory.path + "/" + kKeyFileName});
	for (File& file : files.files_)
		if (Status status = files.read_file(file); !status)
			return status.error();
	return files;
}

Status KeyFiles::refresh(std::uint32_t database)
{
	for (File& file : files_)
		if (file.directory.database == database)
			if (Status status = read_file(file); !status)
				return status;
	return ok_status();
}

Status KeyFiles::read_file(File& file)
{
	const Descriptor descriptor(open(file.path.c_str(), O_RDONLY | O_CLOEXEC));
	const int fd = descriptor.fd;
	if (fd < 0)
		return errno == ENOENT ? ok_status() : Status(failed("open", file.path));
	struct stat now {};
	if (fstat(fd, &now) != 0)
		return failed("stat", file.path);
	if (now.st_size == file.size && now.st_mtim.tv_sec == file.changed.tv_sec &&
	    now.st_mtim.tv_nsec == file.changed.tv_nsec)
		return ok_status();
	file.size = now.st_size;
	file.changed = now.st_mtim;
	std::erase_if(damaged_, [&](const DamagedKeyPage& page) { return page.path == file.path; });

	const std::unique_ptr<std::uint8_t[]> buffer(new std::uint8_t[kChunkPages * kPageSize]);
	for (std::uint32_t block = 0;;) {
		const ssize_t got =
			pread(fd, buffer.get(), kChunkPages * kPageSize, static_cast<off_t>(block) * static_cast<off_t>(kPageSize));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return failed("read", file.path);
		const std::size_t whole = static_cast<std::size_t>(got) / kPageSize;
		for (std::size_t i = 0; i < whole; ++i) {
			std::uint8_t* page = buffer.get() + i * kPageSize;
			const auto number = static_cast<std::uint32_t>(block + i);
			const char* damage = damage_of(page, number, checksums_);
			for (int attempt = 0; damage && online_ && attempt < kAttempts; ++attempt) {
				poll(nullptr, 0, kPauseMs);
				if (pread(fd, page, kPageSize, static_cast<off_t>(number) * static_cast<off_t>(kPageSize)) ==
				    static_cast<ssize_t>(kPageSize))
					damage = damage_of(page, number, checksums_);
			}
			if (damage)
				damaged_.push_back({file.path, number, damage});
			else if (!page_is_zero(page))
				take_page(file, page);
		}
		block += static_cast<std::uint32_t>(whole);
		if (static_cast<std::size_t>(got) % kPageSize != 0 && !online_)
			damaged_.push_back({file.path, block, "short page"});
		if (whole < kChunkPages)
			return ok_status();
	}
}

void KeyFiles::take_page(const File& file, std::uint8_t* page)
{
	const DatabaseDirectory& directory = file.directory;
	for (std::size_t i = 0; i < kSlotsPerPage; ++i) {
		const KeySlot& slot = *key_page_slot(page, i);
		if (slot.state == SlotState::free || slot.rel_node == 0 || slot.dropped_lsn != 0)
			continue;
		RelationKey& key =
			keys_[{directory.database, slot.tablespace ? slot.tablespace : directory.tablespace, slot.rel_node}];
		if (slot.version >= key.version)
			key = {slot.state, slot.form, slot.old_form, slot.version, std::to_array(slot.key_check)};
	}
}

std::optional<RelationKey> KeyFiles::find(const RelationFile& file) const
{
	const auto key = keys_.find({file.database, file.tablespace, file.rel_node});
	if (key == keys_.end())
		return std::nullopt;
	return key->second;
}

std::size_t KeyFiles::size() const
{
	return static_cast<std::size_t>(
		std::count_if(keys_.begin(), keys_.end(), [](const auto& entry) { return entry.second.has_key(); }));
}

} // namespace seal::cli
