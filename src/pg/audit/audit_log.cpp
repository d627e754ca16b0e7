#include "audit_log.hpp"

#include "../guard.hpp"
#include "../shmem.hpp"

extern "C" {
#include "common/file_perm.h"
#include "storage/fd.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
}

#include <algorithm>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace seal::pg {

char* guc_audit_directory;

namespace {

constexpr off_t kSegmentSize = 16 * 1024 * 1024;
constexpr std::size_t kSegmentDigits = 12;

[[noreturn]] void fail(const char* what, const std::string& path)
{
	const int saved = errno;
	raise(Error(ErrorCode::io_error, std::string("could not ") + what + " \"" + path + "\": " + strerror(saved),
	            "The audit log lies in pg_seal.audit_directory."));
}

class File {
public:
	explicit File(int fd) noexcept : fd_(fd) {}
	File(const File&) = delete;
	File& operator=(const File&) = delete;
	~File()
	{
		if (fd_ >= 0)
			close(fd_);
	}
	int fd() const noexcept { return fd_; }

private:
	int fd_;
};

class LockHeld {
public:
	explicit LockHeld(LWLock* lock) : lock_(lock) { LWLockAcquire(lock_, LW_EXCLUSIVE); }
	LockHeld(const LockHeld&) = delete;
	LockHeld& operator=(const LockHeld&) = delete;
	~LockHeld() { LWLockRelease(lock_); }

private:
	LWLock* lock_;
};

std::string segment_name(std::uint64_t number)
{
	const std::string digits = std::to_string(number);
	return std::string(kSegmentDigits - std::min(kSegmentDigits, digits.size()), '0') + digits + kAuditSuffix;
}

bool segment_number(const std::string& name, std::uint64_t& number)
{
	const std::size_t suffix = sizeof kAuditSuffix - 1;
	if (name.size() != kSegmentDigits + suffix || name.compare(kSegmentDigits, suffix, kAuditSuffix) != 0)
		return false;
	number = 0;
	for (std::size_t i = 0; i < kSegmentDigits; i++) {
		if (name[i] < '0' || name[i] > '9')
			return false;
		number = number * 10 + static_cast<std::uint64_t>(name[i] - '0');
	}
	return number > 0;
}

// Ascending. An absent directory holds none.
std::vector<std::uint64_t> segments(const std::string& directory)
{
	std::vector<std::uint64_t> numbers;
	DIR* dir = opendir(directory.c_str());
	if (!dir) {
		if (errno == ENOENT)
			return numbers;
		fail("open directory", directory);
	}
	try {
		std::uint64_t number;
		while (const dirent* entry = readdir(dir))
			if (segment_number(entry->d_name, number))
				numbers.push_back(number);
	} catch (...) {
		closedir(dir);
		throw;
	}
	closedir(dir);
	std::sort(numbers.begin(), numbers.end());
	return numbers;
}

void sync_directory(const std::string& path)
{
	const File dir(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (dir.fd() < 0 || pg_fsync(dir.fd()) != 0)
		fail("fsync directory", path);
}

std::string parent_of(const std::string& path)
{
	const std::size_t slash = path.find_last_of('/');
	return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

// The default directory is ours to make; another one is the administrator's, who gives it its owner and mode.
void make_directory(const std::string& directory)
{
	struct stat status;
	if (stat(directory.c_str(), &status) == 0)
		return;
	if (directory == kAuditDirectory) {
		const std::string parent = parent_of(directory);
		if (mkdir(parent.c_str(), static_cast<mode_t>(pg_dir_create_mode)) != 0 && errno != EEXIST)
			fail("create directory", parent);
		sync_directory(parent_of(parent));
	}
	if (mkdir(directory.c_str(), static_cast<mode_t>(pg_dir_create_mode)) != 0 && errno != EEXIST)
		fail("create directory", directory);
	sync_directory(parent_of(directory));
}

void read_at(int fd, char* out, std::size_t size, off_t at, const std::string& path)
{
	while (size > 0) {
		const ssize_t got = pread(fd, out, size, at);
		if (got < 0 && errno == EINTR)
			continue;
		if (got == 0)
			errno = EIO;
		if (got <= 0)
			fail("read file", path);
		out += got;
		at += got;
		size -= static_cast<std::size_t>(got);
	}
}

off_t size_of(int fd, const std::string& path)
{
	struct stat status;
	if (fstat(fd, &status) != 0)
		fail("stat file", path);
	return status.st_size;
}

// The last number among the lines of `text`; 0 when none of them can be read.
std::uint64_t last_sequence_in(std::string_view text)
{
	std::size_t end = text.find_last_of('\n');
	while (end != std::string_view::npos) {
		const std::size_t before = end == 0 ? std::string_view::npos : text.find_last_of('\n', end - 1);
		const std::size_t start = before == std::string_view::npos ? 0 : before + 1;
		const auto record = decode_audit_line(text.substr(start, end - start));
		if (record)
			return record->seq;
		end = before;
	}
	return 0;
}

// The last number given in a segment. Looks at its last lines, and at all of it only when those are damaged.
std::uint64_t last_sequence(int fd, const std::string& path)
{
	const off_t size = size_of(fd, path);
	for (off_t tail = std::min<off_t>(size, 4 * static_cast<off_t>(kMaxAuditLine));; tail = size) {
		std::string text(static_cast<std::size_t>(tail), '\0');
		read_at(fd, text.data(), text.size(), size - tail, path);
		const std::uint64_t found = last_sequence_in(text);
		if (found > 0 || tail == size)
			return found;
	}
}

// Writes all of it or puts the file back to `size`: no reader ever takes a part for a line.
void write_line(int fd, const std::string& line, off_t size, const std::string& path)
{
	std::size_t done = 0;
	while (done < line.size()) {
		errno = 0;
		const ssize_t wrote = write(fd, line.data() + done, line.size() - done);
		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote <= 0) {
			const int saved = errno ? errno : ENOSPC;
			if (done > 0 && ftruncate(fd, size) != 0)
				errno = saved; // the next append ends the cut line
			errno = saved;
			fail("write to file", path);
		}
		done += static_cast<std::size_t>(wrote);
	}
}

std::int64_t unix_microseconds(TimestampTz at)
{
	return at + (static_cast<std::int64_t>(POSTGRES_EPOCH_JDATE) - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
}

} // namespace

void define_audit_settings()
{
	DefineCustomStringVariable("pg_seal.audit_directory", "Directory of the audit log.",
	                           "Empty: pg_seal/audit in the data directory. Another one keeps the log apart from the data.",
	                           &guc_audit_directory, "", PGC_POSTMASTER, GUC_SUPERUSER_ONLY, nullptr, nullptr, nullptr);
}

std::string audit_directory()
{
	return guc_audit_directory && guc_audit_directory[0] ? guc_audit_directory : kAuditDirectory;
}

void audit_append(AuditRecord record)
{
	const std::string directory = audit_directory();
	const LockHeld lock(seal_lock(Lock::audit));

	make_directory(directory);
	const std::vector<std::uint64_t> numbers = segments(directory);
	std::uint64_t number = numbers.empty() ? 1 : numbers.back();
	std::uint64_t last = 0;
	off_t size = 0;
	for (auto it = numbers.rbegin(); it != numbers.rend() && last == 0; ++it) {
		const std::string path = directory + "/" + segment_name(*it);
		const File file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
		if (file.fd() < 0)
			fail("open file", path);
		if (*it == number)
			size = size_of(file.fd(), path);
		last = last_sequence(file.fd(), path);
	}
	record.seq = last + 1;
	record.at = unix_microseconds(GetCurrentTimestamp());
	std::string line = encode_audit_line(record);

	if (size > 0 && size + static_cast<off_t>(line.size()) > kSegmentSize) {
		number++;
		size = 0;
	}
	const std::string path = directory + "/" + segment_name(number);
	const bool fresh = numbers.empty() || number != numbers.back();
	const File file(open(path.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, static_cast<mode_t>(pg_file_create_mode)));
	if (file.fd() < 0)
		fail("open file", path);
	if (size > 0) {
		char end;
		read_at(file.fd(), &end, 1, size - 1, path);
		if (end != '\n')
			line.insert(line.begin(), '\n');
	}
	write_line(file.fd(), line, size, path);
	if (pg_fsync(file.fd()) != 0)
		fail("fsync file", path);
	if (fresh)
		sync_directory(directory);
}

void audit_read(const AuditVisitor& visit, unsigned last_segments)
{
	const std::string directory = audit_directory();
	std::vector<std::uint64_t> numbers = segments(directory);
	if (last_segments > 0 && numbers.size() > last_segments)
		numbers.erase(numbers.begin(), numbers.end() - last_segments);
	for (const std::uint64_t number : numbers) {
		const std::string name = segment_name(number), path = directory + "/" + name;
		const File file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
		if (file.fd() < 0)
			fail("open file", path);
		std::string text(static_cast<std::size_t>(size_of(file.fd(), path)), '\0');
		read_at(file.fd(), text.data(), text.size(), 0, path);

		std::size_t start = 0;
		while (true) { // what follows the last newline is being written right now, or was cut by a crash
			const std::size_t end = text.find('\n', start);
			if (end == std::string::npos)
				break;
			const auto record = decode_audit_line(std::string_view(text).substr(start, end - start));
			AuditRecord damaged;
			if (!record)
				damaged.detail = AuditDetail().number("offset", static_cast<std::int64_t>(start)).str();
			visit(record ? *record : damaged, name, record.ok());
			start = end + 1;
		}
	}
}

} // namespace seal::pg
