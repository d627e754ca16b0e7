#include "segment_files.hpp"

#include "preload.hpp"
#include "real_calls.hpp"

#include "seal/wal_segment_io.hpp"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/stat.h>
#include <unistd.h>

namespace seal::preload {

namespace {

constexpr std::size_t kNameDigits = 24, kFieldDigits = 8;
constexpr std::uint32_t kSmallestSegment = 1u << 20, kLargestSegment = 1u << 30; // initdb's limits
constexpr int kMostOpen = 64;

class RawIo final : public WalRawIo {
public:
	ssize_t read(int fd, void* buffer, std::size_t size, off_t offset, std::uint64_t) noexcept override
	{
		return real().pread(fd, buffer, size, offset);
	}
	ssize_t write(int fd, const void* buffer, std::size_t size, off_t offset, std::uint64_t) noexcept override
	{
		return real().pwrite(fd, buffer, size, offset);
	}
};

struct OpenSegment {
	bool used = false;
	WalFile file;
	bool named = false; // log and segment numbers are known from the name
	std::uint32_t log = 0, number = 0;
	bool foreign = false, sealed = false; // as its long header says: of another cluster; sealed
	char name[64] = "";
};

RawIo raw;
WalSegmentIo segment_io(keys, raw);
OpenSegment open_segments[kMostOpen];

const char* last_component(const char* path) noexcept
{
	const char* slash = std::strrchr(path, '/');
	return slash ? slash + 1 : path;
}

bool hex_field(const char* digits, std::uint32_t& value) noexcept
{
	value = 0;
	for (std::size_t i = 0; i < kFieldDigits; ++i) {
		const char c = digits[i];
		if (c >= '0' && c <= '9')
			value = value << 4 | static_cast<std::uint32_t>(c - '0');
		else if (c >= 'A' && c <= 'F')
			value = value << 4 | static_cast<std::uint32_t>(c - 'A' + 10);
		else
			return false;
	}
	return true;
}

bool segment_name(const char* name, std::uint32_t& log, std::uint32_t& number) noexcept
{
	std::uint32_t timeline;
	return std::strlen(name) >= kNameDigits && hex_field(name, timeline) && hex_field(name + kFieldDigits, log) &&
	       hex_field(name + 2 * kFieldDigits, number) &&
	       (name[kNameDigits] == '\0' || std::strcmp(name + kNameDigits, ".partial") == 0);
}

OpenSegment* find(int fd) noexcept
{
	for (OpenSegment& segment : open_segments)
		if (segment.used && segment.file.fd == fd)
			return &segment;
	return nullptr;
}

// The header is one of another cluster than the keys are for.
bool is_foreign(const std::uint8_t* long_header) noexcept
{
	std::uint64_t system;
	std::memcpy(&system, long_header + kWalSystemOffset, sizeof system);
	return keys.system_identifier() != 0 && system != keys.system_identifier();
}

bool possible_size(std::uint32_t size) noexcept
{
	return size >= kSmallestSegment && size <= kLargestSegment && (size & (size - 1)) == 0;
}

// The long header of the first page tells the segment size (headers are never sealed); with it the name tells the address. A segment that was
// recycled begins with a page of another address, but of the same size.
void learn_place(OpenSegment& segment) noexcept
{
	std::uint8_t header[kWalLongHeader];
	if (segment.file.segment_size != 0 || !segment.named ||
	    real().pread(segment.file.fd, header, sizeof header, 0) != static_cast<ssize_t>(sizeof header) ||
	    !(wal_info(header) & kWalLongInfo))
		return;
	std::uint32_t size;
	std::memcpy(&size, header + kWalSegmentSizeOffset, sizeof size);
	const std::uint64_t in_a_log = std::uint64_t{1} << 32;
	if (!possible_size(size) || segment.number >= in_a_log / size)
		return;
	segment.foreign = is_foreign(header);
	segment.sealed = wal_sealed(wal_info(header));
	segment.file.segment_size = size;
	segment.file.start = segment.log * in_a_log + std::uint64_t{segment.number} * size;
}

// Generations of different clusters have the same numbers and other keys: what would be read is noise, what would be written is lost.
[[noreturn]] void fail_foreign(const OpenSegment& segment, const char* doing) noexcept
{
	std::fprintf(stderr,
	             "pg_seal: error: could not %s WAL segment \"%s\": it is WAL of another cluster than the one that the "
	             "WAL keys come from\n"
	             "pg_seal: hint: Give pgseal exec the data directory (-D) or the server (--from) of the cluster whose "
	             "WAL this is.\n",
	             doing, segment.name);
	std::exit(1); // as in fail()
}

[[noreturn]] void fail(const OpenSegment& segment, const char* doing) noexcept
{
	if (segment_io.problem() == WalProblem::unknown_key) {
		const auto address = static_cast<unsigned long long>(segment_io.problem_address());
		std::fprintf(stderr,
		             "pg_seal: error: could not %s WAL segment \"%s\": the page at %X/%X is sealed with a WAL key that "
		             "is not known here "
		             "(generation %u modulo %u)\n"
		             "pg_seal: hint: Give pgseal exec the data directory (-D) or the server (--from) whose registry "
		             "holds that key.\n",
		             doing, segment.name, static_cast<unsigned>(address >> 32), static_cast<unsigned>(address),
		             segment_io.problem_mark(), kWalGenerations);
	} else if (segment_io.problem() == WalProblem::not_wal) {
		std::fprintf(stderr,
		             "pg_seal: error: could not %s WAL segment \"%s\": what is to be written is no WAL of that place\n",
		             doing, segment.name);
	} else {
		std::fprintf(stderr, "pg_seal: error: could not %s WAL segment \"%s\": the cryptographic library failed\n",
		             doing, segment.name);
	}
	std::exit(1); // not _exit(): pg_basebackup removes at exit what it began
}

} // namespace

bool is_segment_path(const char* path) noexcept
{
	const char* name = last_component(path);
	std::uint32_t log, number;
	constexpr char kTemporary[] = "xlogtemp.";
	return segment_name(name, log, number) || std::strcmp(name, "RECOVERYXLOG") == 0 ||
	       (std::strncmp(name, kTemporary, sizeof kTemporary - 1) == 0 && name[sizeof kTemporary - 1] != '\0' &&
	        std::strspn(name + sizeof kTemporary - 1, "0123456789") == std::strlen(name + sizeof kTemporary - 1));
}

bool segment_opened(int fd, const char* path) noexcept
{
	for (OpenSegment& segment : open_segments) {
		if (segment.used)
			continue;
		segment = OpenSegment{};
		segment.used = true;
		segment.file.fd = fd;
		segment.named = segment_name(last_component(path), segment.log, segment.number);
		std::snprintf(segment.name, sizeof segment.name, "%s", last_component(path));
		learn_place(segment);
		return true;
	}
	return false;
}

bool segment_is_open(int fd) noexcept { return find(fd) != nullptr; }

void segment_closing(int fd) noexcept
{
	if (OpenSegment* segment = find(fd)) {
		segment_io.forget_tail();
		segment->used = false;
	}
}

void segment_truncated(int fd) noexcept
{
	if (find(fd))
		segment_io.forget_tail();
}

ssize_t segment_pread(int fd, void* buffer, size_t size, off_t offset) noexcept
{
	OpenSegment& segment = *find(fd);
	learn_place(segment);
	if (segment.foreign && segment.sealed)
		fail_foreign(segment, "read");
	const ssize_t done = segment_io.pread(segment.file, buffer, size, offset);
	if (segment_io.problem() != WalProblem::none)
		fail(segment, "read");
	return done;
}

ssize_t segment_pwrite(int fd, const void* buffer, size_t size, off_t offset) noexcept
{
	OpenSegment& segment = *find(fd);
	learn_place(segment);
	const auto* bytes = static_cast<const std::uint8_t*>(buffer);
	if (segment.foreign ||
	    (offset == 0 && size >= kWalLongHeader && (wal_info(bytes) & kWalLongInfo) && is_foreign(bytes)))
		fail_foreign(segment, "write");
	const ssize_t done = segment_io.pwrite(segment.file, buffer, size, offset);
	if (segment_io.problem() != WalProblem::none)
		fail(segment, "write");
	return done;
}

ssize_t segment_read(int fd, void* buffer, size_t size) noexcept
{
	const off_t position = lseek(fd, 0, SEEK_CUR);
	if (position < 0)
		return -1;
	const ssize_t done = segment_pread(fd, buffer, size, position);
	if (done > 0 && lseek(fd, position + done, SEEK_SET) < 0)
		return -1;
	return done;
}

ssize_t segment_write(int fd, const void* buffer, size_t size) noexcept
{
	const off_t position = lseek(fd, 0, SEEK_CUR);
	if (position < 0)
		return -1;
	const ssize_t done = segment_pwrite(fd, buffer, size, position);
	if (done > 0 && lseek(fd, position + done, SEEK_SET) < 0)
		return -1;
	return done;
}

} // namespace seal::preload
