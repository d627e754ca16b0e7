// The functions that stand before the C library's: every file operation that a stock tool applies to a WAL segment.
//
// Which ones that is was read from the tools' import tables (PostgreSQL 15 to 18): open, close, read, write, pread, pwrite, pwritev, ftruncate. None of
// them uses fopen, mmap, copy_file_range or writev on a segment; lseek needs nothing. Any descriptor that is not a segment costs a look through a
// short table. errno is as the real call leaves it.
//
// Writers open segments O_WRONLY; a page that is written in part is read first, so O_RDWR it becomes.
#include "audit_files.hpp"
#include "preload.hpp"
#include "real_calls.hpp"
#include "segment_files.hpp"

#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEAL_INTERPOSED extern "C" __attribute__((visibility("default")))

namespace seal::preload {

namespace {

// A segment in pg_wal of the data directory that is rewound.
bool in_target_wal(const char* path) noexcept
{
	char directory[PATH_MAX], here[PATH_MAX], there[PATH_MAX];
	const char* slash = std::strrchr(path, '/');
	const int size = slash ? static_cast<int>(slash - path) : 0;
	return size > 0 && std::snprintf(directory, sizeof directory, "%.*s", size, path) < PATH_MAX &&
	       realpath(directory, here) != nullptr &&
	       std::snprintf(directory, sizeof directory, "%s/pg_wal", keys.data_directory()) < PATH_MAX &&
	       realpath(directory, there) != nullptr && std::strcmp(here, there) == 0;
}

bool served(const char* path, int flags) noexcept
{
	if (role == Role::aside || !is_segment_path(path))
		return false;
	return role == Role::segments || ((flags & O_ACCMODE) == O_RDONLY && in_target_wal(path));
}

bool takes_mode(int flags) noexcept { return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE; }

int open_any(int directory, const char* path, int flags, mode_t mode) noexcept
{
	if (role == Role::rewind && (flags & O_ACCMODE) != O_RDONLY && is_own_audit_path(path)) {
		path = "/dev/null";
		flags = O_RDWR | (flags & O_CLOEXEC);
	}
	const bool segment = served(path, flags);
	if (segment && (flags & O_ACCMODE) == O_WRONLY)
		flags = (flags & ~O_ACCMODE) | O_RDWR;
	const int fd = directory == AT_FDCWD ? real().open(path, flags, mode) : real().openat(directory, path, flags, mode);
	if (fd >= 0 && role != Role::aside)
		segment_closing(fd); // of the same number: closed behind the library's back
	if (fd >= 0 && segment && !segment_opened(fd, path)) {
		real().close(fd);
		errno = EMFILE;
		return -1;
	}
	return fd;
}

bool is_null_device(int fd) noexcept
{
	struct stat file, null_device;
	return role == Role::rewind && fstat(fd, &file) == 0 && S_ISCHR(file.st_mode) &&
	       stat("/dev/null", &null_device) == 0 && file.st_rdev == null_device.st_rdev;
}

bool is_segment(int fd) noexcept { return role != Role::aside && segment_is_open(fd); }

} // namespace

} // namespace seal::preload

using namespace seal::preload;

#define SEAL_MODE_ARGUMENT(flags, mode)                                                                                \
	mode_t mode = 0;                                                                                                   \
	if (takes_mode(flags)) {                                                                                           \
		va_list arguments;                                                                                             \
		va_start(arguments, flags);                                                                                    \
		mode = va_arg(arguments, mode_t);                                                                              \
		va_end(arguments);                                                                                             \
	}

SEAL_INTERPOSED int open(const char* path, int flags, ...)
{
	SEAL_MODE_ARGUMENT(flags, mode)
	return open_any(AT_FDCWD, path, flags, mode);
}
SEAL_INTERPOSED int open64(const char* path, int flags, ...)
{
	SEAL_MODE_ARGUMENT(flags, mode)
	return open_any(AT_FDCWD, path, flags, mode);
}
SEAL_INTERPOSED int openat(int directory, const char* path, int flags, ...)
{
	SEAL_MODE_ARGUMENT(flags, mode)
	return open_any(directory, path, flags, mode);
}
SEAL_INTERPOSED int openat64(int directory, const char* path, int flags, ...)
{
	SEAL_MODE_ARGUMENT(flags, mode)
	return open_any(directory, path, flags, mode);
}
SEAL_INTERPOSED int creat(const char* path, mode_t mode)
{
	return open_any(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}
SEAL_INTERPOSED int creat64(const char* path, mode_t mode)
{
	return open_any(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}
// What a fortified build of a tool calls.
SEAL_INTERPOSED int __open_2(const char* path, int flags) { return open_any(AT_FDCWD, path, flags, 0); }
SEAL_INTERPOSED int __open64_2(const char* path, int flags) { return open_any(AT_FDCWD, path, flags, 0); }

SEAL_INTERPOSED int close(int fd)
{
	if (is_segment(fd))
		segment_closing(fd);
	return real().close(fd);
}

SEAL_INTERPOSED ssize_t read(int fd, void* buffer, size_t size)
{
	return is_segment(fd) ? segment_read(fd, buffer, size) : real().read(fd, buffer, size);
}
SEAL_INTERPOSED ssize_t __read_chk(int fd, void* buffer, size_t size, size_t room)
{
	if (size > room)
		std::abort();
	return is_segment(fd) ? segment_read(fd, buffer, size) : real().read(fd, buffer, size);
}
SEAL_INTERPOSED ssize_t write(int fd, const void* buffer, size_t size)
{
	return is_segment(fd) ? segment_write(fd, buffer, size) : real().write(fd, buffer, size);
}
SEAL_INTERPOSED ssize_t pread(int fd, void* buffer, size_t size, off_t offset)
{
	return is_segment(fd) ? segment_pread(fd, buffer, size, offset) : real().pread(fd, buffer, size, offset);
}
SEAL_INTERPOSED ssize_t pread64(int fd, void* buffer, size_t size, off_t offset)
{
	return is_segment(fd) ? segment_pread(fd, buffer, size, offset) : real().pread(fd, buffer, size, offset);
}
SEAL_INTERPOSED ssize_t __pread_chk(int fd, void* buffer, size_t size, off_t offset, size_t room)
{
	if (size > room)
		std::abort();
	return is_segment(fd) ? segment_pread(fd, buffer, size, offset) : real().pread(fd, buffer, size, offset);
}
SEAL_INTERPOSED ssize_t __pread64_chk(int fd, void* buffer, size_t size, off_t offset, size_t room)
{
	if (size > room)
		std::abort();
	return is_segment(fd) ? segment_pread(fd, buffer, size, offset) : real().pread(fd, buffer, size, offset);
}
SEAL_INTERPOSED ssize_t pwrite(int fd, const void* buffer, size_t size, off_t offset)
{
	return is_segment(fd) ? segment_pwrite(fd, buffer, size, offset) : real().pwrite(fd, buffer, size, offset);
}
SEAL_INTERPOSED ssize_t pwrite64(int fd, const void* buffer, size_t size, off_t offset)
{
	return is_segment(fd) ? segment_pwrite(fd, buffer, size, offset) : real().pwrite(fd, buffer, size, offset);
}

namespace {

// Part after part; a part that is written short ends it, as with the real call.
ssize_t write_parts(int fd, const iovec* parts, int count, off_t offset) noexcept
{
	if (!is_segment(fd))
		return real().pwritev(fd, parts, count, offset);
	ssize_t sum = 0;
	for (int i = 0; i < count; ++i) {
		const ssize_t done = segment_pwrite(fd, parts[i].iov_base, parts[i].iov_len, offset + sum);
		if (done < 0)
			return sum > 0 ? sum : -1;
		sum += done;
		if (static_cast<size_t>(done) < parts[i].iov_len)
			break;
	}
	return sum;
}

int truncate_to(int fd, off_t size) noexcept
{
	if (is_null_device(fd))
		return 0;
	if (is_segment(fd))
		segment_truncated(fd);
	return real().ftruncate(fd, size);
}

} // namespace

SEAL_INTERPOSED ssize_t pwritev(int fd, const iovec* parts, int count, off_t offset)
{
	return write_parts(fd, parts, count, offset);
}
SEAL_INTERPOSED ssize_t pwritev64(int fd, const iovec* parts, int count, off_t offset)
{
	return write_parts(fd, parts, count, offset);
}
SEAL_INTERPOSED int ftruncate(int fd, off_t size) { return truncate_to(fd, size); }
SEAL_INTERPOSED int ftruncate64(int fd, off_t size) { return truncate_to(fd, size); }

SEAL_INTERPOSED int unlink(const char* path)
{
	return role == Role::rewind && is_own_audit_path(path) ? 0 : real().unlink(path);
}
SEAL_INTERPOSED int rmdir(const char* path)
{
	return role == Role::rewind && is_own_audit_path(path) ? 0 : real().rmdir(path);
}
