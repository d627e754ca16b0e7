#include "wal_scan.hpp"

#include "seal/wal_format.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <iterator>
#include <memory>
#include <unistd.h>

namespace seal::cli {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kChunkPages = 128;
constexpr std::size_t kNameDigits = 24, kFieldDigits = 8;
constexpr std::uint32_t kSmallestSegment = 1u << 20, kLargestSegment = 1u << 30;
constexpr std::uint16_t kMagics[] = {0xD110}; // of WAL pages, by version: PostgreSQL 15
constexpr std::uint64_t kUnknown = ~std::uint64_t{0};

bool all_zero(const std::uint8_t* bytes, std::size_t size)
{
	return bytes[0] == 0 && std::memcmp(bytes, bytes + 1, size - 1) == 0;
}

bool hexadecimal(const std::string& text) { return text.find_first_not_of("0123456789ABCDEF") == std::string::npos; }

// pgBackRest keeps segments in directories named by timeline and log.
bool is_archive_folder(const std::string& name) { return name.size() == 2 * kFieldDigits && hexadecimal(name); }

enum class Name { segment, packed, other };

Name judge_name(const std::string& name)
{
	if (name == "RECOVERYXLOG" || name.rfind("xlogtemp.", 0) == 0)
		return Name::segment;
	if (name.size() < kNameDigits || !hexadecimal(name.substr(0, kNameDigits)))
		return Name::other;
	const std::string rest = name.substr(kNameDigits);
	if (rest.empty() || rest == ".partial")
		return Name::segment;
	return rest.find(".backup") != std::string::npos || rest.find(".history") != std::string::npos ? Name::other
	                                                                                               : Name::packed;
}

class SegmentReader {
public:
	SegmentReader(const WalKeysDef& keys, WalDirectoryScan& result)
		: result_(result), buffer_(new std::uint8_t[kChunkPages * kWalPageSize])
	{
		for (const WalKeyDef& key : keys.keys)
			generations_[key.generation % kWalGenerations] = key.generation;
	}

	Status read(const std::string& path, const std::string& name, bool vanishing)
	{
		const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return errno == ENOENT && vanishing ? ok_status() : Status(failed("open", path));
		name_ = name;
		start_ = kUnknown;
		in_clear_ = judged_ = stranger_ = false;
		const std::uint64_t zero = result_.zero;
		const Status status = read_open(fd, path);
		close(fd);
		if (stranger_) {
			++result_.not_examined;
			result_.zero = zero;
			return status;
		}
		++result_.segments;
		result_.segments_in_clear += in_clear_;
		return status;
	}

private:
	static Error failed(const char* what, const std::string& path)
	{
		return {ErrorCode::io_error, std::string("could not ") + what + " \"" + path + "\": " + std::strerror(errno)};
	}

	Status read_open(int fd, const std::string& path)
	{
		for (std::uint64_t offset = 0;;) {
			const ssize_t got = pread(fd, buffer_.get(), kChunkPages * kWalPageSize, static_cast<off_t>(offset));
			if (got < 0 && errno == EINTR)
				continue;
			if (got < 0)
				return failed("read", path);
			const std::size_t pages = static_cast<std::size_t>(got) / kWalPageSize;
			stranger_ = stranger_ || (got > 0 && pages == 0 && offset == 0);
			for (std::size_t i = 0; i < pages && !stranger_; ++i)
				count(buffer_.get() + i * kWalPageSize, offset + i * kWalPageSize);
			if (pages < kChunkPages)
				return ok_status();
			offset += pages * kWalPageSize;
		}
	}

	// The segment size stands in every first page, also in that of the segment that the file was before.
	void learn_start(const std::uint8_t* page)
	{
		std::uint32_t size = 0;
		std::memcpy(&size, page + kWalSegmentSizeOffset, sizeof size);
		if (!(wal_info(page) & kWalLongInfo) || size < kSmallestSegment || size > kLargestSegment ||
		    (size & (size - 1)) != 0 || name_.size() < kNameDigits)
			return;
		const std::uint64_t log = std::stoull(name_.substr(kFieldDigits, kFieldDigits), nullptr, 16),
							number = std::stoull(name_.substr(2 * kFieldDigits, kFieldDigits), nullptr, 16);
		start_ = (log << 32) + number * size;
	}

	void count(const std::uint8_t* page, std::uint64_t offset)
	{
		if (all_zero(page, kWalPageSize)) {
			++result_.zero;
			return;
		}
		if (!judged_) {
			judged_ = true;
			std::uint16_t magic;
			std::memcpy(&magic, page, sizeof magic);
			stranger_ = std::find(std::begin(kMagics), std::end(kMagics), magic) == std::end(kMagics);
			if (stranger_)
				return;
		}
		if (offset == 0)
			learn_start(page);
		const std::uint16_t info = wal_info(page);
		const bool own = start_ == kUnknown || wal_address(page) == start_ + offset;
		const std::size_t header = wal_header_size(info);
		if (wal_sealed(info)) {
			count_sealed(page, own);
		} else if (all_zero(page + header, kWalPageSize - header)) {
			++result_.empty;
		} else if (own) {
			++result_.plain;
			in_clear_ = true;
		} else {
			++result_.left_plain;
		}
	}

	void count_sealed(const std::uint8_t* page, bool own)
	{
		if (!own) {
			++result_.left_sealed;
			return;
		}
		const std::uint16_t mark = wal_mark(wal_info(page));
		const auto known = generations_.find(mark);
		const std::uint32_t generation = known == generations_.end() ? mark : known->second;
		++result_.sealed[generation];
		if (known == generations_.end())
			result_.unknown[name_] = generation;
	}

	std::map<std::uint32_t, std::uint32_t> generations_; // mark -> the newest generation that has it
	WalDirectoryScan& result_;
	std::unique_ptr<std::uint8_t[]> buffer_;
	std::string name_;
	std::uint64_t start_ = kUnknown;
	bool in_clear_ = false;
	bool judged_ = false, stranger_ = false; // by the first page that is not all zero; it is no page of WAL
};

} // namespace

std::uint64_t WalDirectoryScan::sealed_total() const
{
	std::uint64_t sum = 0;
	for (const auto& [generation, pages] : sealed)
		sum += pages;
	return sum;
}

namespace {

// Segments in the directory, and in those of an archive's folders that it holds (`below`).
Status list_segments(const fs::path& path, bool below, std::vector<fs::path>& found, WalDirectoryScan& result)
{
	std::error_code error;
	fs::directory_iterator entry(path, error);
	for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
		const std::string name = entry->path().filename().string();
		std::error_code unknown;
		if (below && is_archive_folder(name) && fs::is_directory(entry->path(), unknown)) {
			if (Status status = list_segments(entry->path(), false, found, result); !status)
				return status;
			continue;
		}
		const Name kind = judge_name(name);
		if (kind == Name::segment)
			found.push_back(entry->path());
		result.not_examined += kind == Name::packed;
	}
	if (error)
		return Error(ErrorCode::io_error, "could not read directory \"" + path.string() + "\": " + error.message());
	return ok_status();
}

} // namespace

Result<WalDirectoryScan> scan_wal_directory(const std::string& path, const WalKeysDef& keys, bool vanishing)
{
	WalDirectoryScan result;
	result.path = path;
	std::vector<fs::path> segments;
	if (Status status = list_segments(path, true, segments, result); !status)
		return status.error();
	std::sort(segments.begin(), segments.end());
	SegmentReader reader(keys, result);
	for (const fs::path& segment : segments)
		if (Status status = reader.read(segment.string(), segment.filename().string(), vanishing); !status)
			return status.error();
	return result;
}

} // namespace seal::cli
