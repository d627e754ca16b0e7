// The file seam: redirects the server's own import slots for open, close, read, write, pread, pwrite, pwritev and ftruncate, so that WAL,
// temporary and spill files are sealed below code that knows nothing of it.
//
// A file is classed once, by its path, when it is opened; the class sits in an array indexed by descriptor, so any other file costs one
// array load per call. Only calls made by the server's executable pass through here: a library has import slots of its own.
//
// Fail closed, as the storage seam (storage/seam.hpp): a slot that is missing or already points elsewhere than into the C library, or a probe that does not
// arrive: FATAL with what was looked for and what was found.
//
// A kind's functions run in any process, in critical sections and in signal-unsafe places: no allocation, no ereport below PANIC unless the
// kind knows better, errno as the real call sets it. `stock` is the C library's own function. `closing` may be null (nothing to do); any
// other null function is a call that the kind does not know: it fails with ENOTSUP.
#pragma once

#include "../pg.hpp"

#include <sys/types.h>
#include <sys/uio.h>

namespace seal::pg {

struct FileKind {
	const char* name; // for messages
	// Is a file of this path (as given to open(2), relative to the data directory or absolute) and these flags of this kind, in this process?
	bool (*claims)(const char* path, int flags) noexcept;
	// After a successful open(2). False with errno set: the descriptor is closed and open fails.
	bool (*opened)(int fd, const char* path, int flags) noexcept;
	void (*closing)(int fd) noexcept; // before close(2)
	ssize_t (*read)(int fd, void* buffer, size_t size) noexcept;
	ssize_t (*write)(int fd, const void* buffer, size_t size) noexcept;
	ssize_t (*pread)(int fd, void* buffer, size_t size, off_t offset) noexcept;
	ssize_t (*pwrite)(int fd, const void* buffer, size_t size, off_t offset) noexcept;
	ssize_t (*pwritev)(int fd, const iovec* parts, int count, off_t offset) noexcept;
	int (*ftruncate)(int fd, off_t size) noexcept;
};

// The kinds there are: each is defined by its own folder. The first that claims a path has it.
extern const FileKind kWalFileKind;    // src/pg/wal: segments in pg_wal
extern const FileKind kTempFileKind;   // src/pg/temp: BufFile files (pgsql_tmp, shared filesets, .changes)
extern const FileKind kSpillFileKind;  // src/pg/temp: logical decoding's .spill
extern const FileKind kNotifyFileKind; // src/pg/temp: pg_notify

inline constexpr int kMaxClassedDescriptor = 65536; // a classed file with a higher descriptor is refused (EMFILE)

void file_seam_install(); // from _PG_init in the postmaster or single-user mode, after the storage seam; FATAL on any doubt
bool file_seam_installed() noexcept;
const char* file_seam_summary() noexcept; // one line for health

// The C library's own functions, for kinds: never pass through the seam again.
namespace stock {
int open(const char* path, int flags, mode_t mode) noexcept;
int close(int fd) noexcept;
ssize_t read(int fd, void* buffer, size_t size) noexcept;
ssize_t write(int fd, const void* buffer, size_t size) noexcept;
ssize_t pread(int fd, void* buffer, size_t size, off_t offset) noexcept;
ssize_t pwrite(int fd, const void* buffer, size_t size, off_t offset) noexcept;
ssize_t pwritev(int fd, const iovec* parts, int count, off_t offset) noexcept;
int ftruncate(int fd, off_t size) noexcept;
} // namespace stock

} // namespace seal::pg
