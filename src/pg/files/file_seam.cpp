// What an import slot of the server leads to, and the classes of descriptors.
//
// A descriptor gets its class when the server's open(2) returns it and loses it in the server's close(2). Every open through the seam
// sets the class, also to "any other file"; a descriptor that is made otherwise (socket, pipe, fopen, a library) can only have the number
// of one that is closed, and the server closes its files through its own slot. Children inherit descriptors and classes alike.
#include "file_seam.hpp"

#include "file_probe.hpp"
#include "import_slots.hpp"

#include <cerrno>
#include <cstdarg>
#include <fcntl.h>
#include <iterator>

// glibc's own end of a call that would overrun its buffer (Linux Standard Base).
extern "C" [[noreturn]] void __chk_fail() noexcept;

namespace seal::pg {

namespace {

// The kinds there are, in the order in which they are asked.
constexpr const FileKind* kKinds[] = {&kWalFileKind, &kTempFileKind, &kSpillFileKind, &kNotifyFileKind,
                                      &kProbeFileKind};

// The C library's functions, taken from it by name.
struct Stock {
	int (*open)(const char*, int, ...);
	int (*close)(int);
	ssize_t (*read)(int, void*, size_t);
	ssize_t (*write)(int, const void*, size_t);
	ssize_t (*pread)(int, void*, size_t, off_t);
	ssize_t (*pwrite)(int, const void*, size_t, off_t);
	ssize_t (*pwritev)(int, const iovec*, int, off_t);
	int (*ftruncate)(int, off_t);
} libc;
static_assert(sizeof(off_t) == 8, "the plain and the 64 names are the same functions");

std::uint8_t class_of[kMaxClassedDescriptor]; // 0: any other file; n: kKinds[n - 1]
bool installed = false;
char summary[400] = "not installed";

inline const FileKind* kind_of(int fd) noexcept
{
	if (static_cast<unsigned>(fd) >= static_cast<unsigned>(kMaxClassedDescriptor) || likely(class_of[fd] == 0))
		return nullptr;
	return kKinds[class_of[fd] - 1];
}

template <class R> R not_supported() noexcept
{
	errno = ENOTSUP;
	return -1;
}

int open_classed(const char* path, int flags, mode_t mode) noexcept
{
	int claimed = 0;
	for (std::size_t i = 0; i < std::size(kKinds) && claimed == 0; ++i)
		if (kKinds[i]->claims(path, flags))
			claimed = static_cast<int>(i) + 1;
	const int fd = likely(!file_probe_runs()) ? libc.open(path, flags, mode) : libc.open("/dev/null", O_RDWR);
	if (fd < 0)
		return fd;
	if (fd < kMaxClassedDescriptor)
		class_of[fd] = static_cast<std::uint8_t>(claimed);
	if (claimed == 0)
		return fd;
	if (fd < kMaxClassedDescriptor) {
		if (kKinds[claimed - 1]->opened(fd, path, flags))
			return fd;
	} else {
		errno = EMFILE;
	}
	const int reason = errno;
	if (fd < kMaxClassedDescriptor)
		class_of[fd] = 0;
	libc.close(fd);
	errno = reason;
	return -1;
}

int seal_open(const char* path, int flags, ...)
{
	mode_t mode = 0;
	if ((flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE) {
		va_list rest;
		va_start(rest, flags);
		mode = va_arg(rest, mode_t);
		va_end(rest);
	}
	return open_classed(path, flags, mode);
}

int seal_open_2(const char* path, int flags) { return open_classed(path, flags, 0); }

int seal_close(int fd)
{
	if (const FileKind* const kind = kind_of(fd)) {
		if (kind->closing)
			kind->closing(fd);
		class_of[fd] = 0;
	}
	return libc.close(fd);
}

ssize_t seal_read(int fd, void* buffer, size_t size)
{
	const FileKind* const kind = kind_of(fd);
	if (likely(!kind))
		return libc.read(fd, buffer, size);
	return kind->read ? kind->read(fd, buffer, size) : not_supported<ssize_t>();
}

// The checking twins abort when `size` is more than the buffer holds; so does this, with the C library's own message.
ssize_t seal_read_chk(int fd, void* buffer, size_t size, size_t room)
{
	if (unlikely(size > room))
		__chk_fail();
	return seal_read(fd, buffer, size);
}

ssize_t seal_write(int fd, const void* buffer, size_t size)
{
	const FileKind* const kind = kind_of(fd);
	if (likely(!kind))
		return libc.write(fd, buffer, size);
	return kind->write ? kind->write(fd, buffer, size) : not_supported<ssize_t>();
}

ssize_t seal_pread(int fd, void* buffer, size_t size, off_t offset)
{
	const FileKind* const kind = kind_of(fd);
	if (likely(!kind))
		return libc.pread(fd, buffer, size, offset);
	return kind->pread ? kind->pread(fd, buffer, size, offset) : not_supported<ssize_t>();
}

ssize_t seal_pread_chk(int fd, void* buffer, size_t size, off_t offset, size_t room)
{
	if (unlikely(size > room))
		__chk_fail();
	return seal_pread(fd, buffer, size, offset);
}

ssize_t seal_pwrite(int fd, const void* buffer, size_t size, off_t offset)
{
	const FileKind* const kind = kind_of(fd);
	if (likely(!kind))
		return libc.pwrite(fd, buffer, size, offset);
	return kind->pwrite ? kind->pwrite(fd, buffer, size, offset) : not_supported<ssize_t>();
}

ssize_t seal_pwritev(int fd, const iovec* parts, int count, off_t offset)
{
	const FileKind* const kind = kind_of(fd);
	if (likely(!kind))
		return libc.pwritev(fd, parts, count, offset);
	return kind->pwritev ? kind->pwritev(fd, parts, count, offset) : not_supported<ssize_t>();
}

int seal_ftruncate(int fd, off_t size)
{
	const FileKind* const kind = kind_of(fd);
	if (likely(!kind))
		return libc.ftruncate(fd, size);
	return kind->ftruncate ? kind->ftruncate(fd, size) : not_supported<int>();
}

// A name that the executable may import, what stands in its slot from now on, and (for the plain names) where the C library's own is kept.
struct Import {
	const char* name;
	FileRole role;
	void* ours;
	void** stock;
};

template <class F> Import plain(FileRole role, F* ours, F*& stock) noexcept
{
	return {kFileRoleNames[role], role, reinterpret_cast<void*>(ours), reinterpret_cast<void**>(&stock)};
}

// The same under another name: with 64, or a checking twin of calls compiled with _FORTIFY_SOURCE. They exist in some builds only.
template <class F> Import also(const char* name, FileRole role, F* ours) noexcept
{
	return {name, role, reinterpret_cast<void*>(ours), nullptr};
}

void check_roles(unsigned there)
{
	for (int role = 0; role < kFileRoles; ++role)
		if ((there & (1u << role)) == 0)
			ereport(FATAL,
			        (errmsg("pg_seal: the server's executable does not import \"%s\"", kFileRoleNames[role]),
			         errdetail("It may be linked statically, or reach its files in another way."),
			         errhint("Use the PostgreSQL packages of the distribution; \"pgseal doctor --binary\" examines a "
			                 "server.")));
}

// What was proved by a call of the server's own functions, and what was only redirected.
void describe(const Import* imports, const ImportSlot* slots, int count) noexcept
{
	char proved[120] = "", only[120] = "";
	for (int i = 0; i < count; ++i) {
		if (!slots[i].place)
			continue;
		char* const list = imports[i].stock ? proved : only;
		if (list[0])
			strlcat(list, ", ", sizeof proved);
		strlcat(list, imports[i].name, sizeof proved);
	}
	snprintf(summary, sizeof summary, "import slots redirected, proved by calls: %s%s%s", proved,
	         only[0] ? "; redirected only: " : "", only);
}

} // namespace

void file_seam_install()
{
	const Import imports[] = {
		plain(file_open, seal_open, libc.open),
		also("open64", file_open, seal_open),
		also("__open_2", file_open, seal_open_2),
		also("__open64_2", file_open, seal_open_2),
		plain(file_close, seal_close, libc.close),
		plain(file_read, seal_read, libc.read),
		also("__read_chk", file_read, seal_read_chk),
		plain(file_write, seal_write, libc.write),
		plain(file_pread, seal_pread, libc.pread),
		also("pread64", file_pread, seal_pread),
		also("__pread_chk", file_pread, seal_pread_chk),
		also("__pread64_chk", file_pread, seal_pread_chk),
		plain(file_pwrite, seal_pwrite, libc.pwrite),
		also("pwrite64", file_pwrite, seal_pwrite),
		plain(file_pwritev, seal_pwritev, libc.pwritev),
		also("pwritev64", file_pwritev, seal_pwritev),
		plain(file_ftruncate, seal_ftruncate, libc.ftruncate),
		also("ftruncate64", file_ftruncate, seal_ftruncate),
	};
	constexpr int kImports = static_cast<int>(std::size(imports));
	ImportSlot slots[kImports] = {};
	for (int i = 0; i < kImports; ++i)
		slots[i].name = imports[i].name;

	import_slots_find(slots, kImports);
	unsigned there = 0;
	for (int i = 0; i < kImports; ++i) {
		if (slots[i].place)
			there |= 1u << imports[i].role;
		if (imports[i].stock)
			*imports[i].stock = slots[i].c_library;
	}
	check_roles(there);
	for (int i = 0; i < kImports; ++i)
		if (slots[i].place)
			import_slot_write(slots[i], imports[i].ours);
	file_probe_run();
	describe(imports, slots, kImports);
	installed = true;
}

bool file_seam_installed() noexcept { return installed; }
const char* file_seam_summary() noexcept { return summary; }

namespace stock {
int open(const char* path, int flags, mode_t mode) noexcept { return libc.open(path, flags, mode); }
int close(int fd) noexcept { return libc.close(fd); }
ssize_t read(int fd, void* buffer, size_t size) noexcept { return libc.read(fd, buffer, size); }
ssize_t write(int fd, const void* buffer, size_t size) noexcept { return libc.write(fd, buffer, size); }
ssize_t pread(int fd, void* buffer, size_t size, off_t offset) noexcept { return libc.pread(fd, buffer, size, offset); }
ssize_t pwrite(int fd, const void* buffer, size_t size, off_t offset) noexcept
{
	return libc.pwrite(fd, buffer, size, offset);
}
ssize_t pwritev(int fd, const iovec* parts, int count, off_t offset) noexcept
{
	return libc.pwritev(fd, parts, count, offset);
}
int ftruncate(int fd, off_t size) noexcept { return libc.ftruncate(fd, size); }
} // namespace stock

} // namespace seal::pg
