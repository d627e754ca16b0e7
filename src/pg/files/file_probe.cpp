#include "file_probe.hpp"

#include "../storage/probe_child.hpp"

extern "C" {
#include "port/pg_iovec.h"
#include "storage/copydir.h"
#include "storage/fd.h"
}

#include <bit>
#include <cstring>
#include <fcntl.h>
#include <sys/wait.h>

namespace seal::pg {

namespace {

constexpr const char* kProbePath = "pg_seal: probe of the file seam";
bool probing = false;
bool probe_read_done = false;
unsigned arrived = 0; // a bit for each role

ssize_t note(FileRole role, size_t result) noexcept
{
	arrived |= 1u << role;
	return static_cast<ssize_t>(result);
}

bool probe_claims(const char* path, int) noexcept { return probing && strcmp(path, kProbePath) == 0; }
bool probe_opened(int, const char*, int) noexcept { return note(file_open, 1) == 1; }
void probe_closing(int) noexcept { note(file_close, 0); }

ssize_t probe_read(int, void* buffer, size_t size) noexcept
{
	memset(buffer, 0, size);
	const size_t got = probe_read_done ? 0 : 1; // then the end of the file
	probe_read_done = true;
	return note(file_read, got);
}

ssize_t probe_write(int, const void*, size_t size) noexcept { return note(file_write, size); }

ssize_t probe_pread(int, void* buffer, size_t size, off_t) noexcept
{
	memset(buffer, 0, size);
	return note(file_pread, size);
}

ssize_t probe_pwrite(int, const void*, size_t size, off_t) noexcept { return note(file_pwrite, size); }

ssize_t probe_pwritev(int, const iovec* parts, int count, off_t) noexcept
{
	size_t size = 0;
	for (int i = 0; i < count; ++i)
		size += parts[i].iov_len;
	return note(file_pwritev, size);
}

int probe_ftruncate(int, off_t) noexcept { return static_cast<int>(note(file_ftruncate, 0)); }

// Returns 0, or the number (from 1) of the first role that did not arrive.
int probe_in_child()
{
	char path[64], byte = 0;
	strlcpy(path, kProbePath, sizeof path);
	enableFsync = false; // copy_file() would flush what it did not write
	probing = true;
	copy_file(path, path); // open, read, write, close
	InitFileAccess();
	const File file = PathNameOpenFile(path, O_RDWR);
	FileWrite(file, &byte, 1, 0, 0);
	FileRead(file, &byte, 1, 0, 0);
	FileTruncate(file, 0, 0);
	FileClose(file);
	const int fd = BasicOpenFile(path, O_RDWR);
	iovec parts[2] = {{&byte, 1}, {&byte, 1}};
	pg_pwritev_with_retry(fd, parts, 2, 0);
	const unsigned missed = ((1u << kFileRoles) - 1) & ~arrived;
	return missed == 0 ? 0 : 1 + std::countr_zero(missed);
}

} // namespace

const FileKind kProbeFileKind = {
	.name = "probe",
	.claims = probe_claims,
	.opened = probe_opened,
	.closing = probe_closing,
	.read = probe_read,
	.write = probe_write,
	.pread = probe_pread,
	.pwrite = probe_pwrite,
	.pwritev = probe_pwritev,
	.ftruncate = probe_ftruncate,
};

bool file_probe_runs() noexcept { return probing; }

void file_probe_run()
{
	const int status = run_probe_in_child("import slots", probe_in_child);
	if (status == 0)
		return;
	const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
	if (code < 1 || code > kFileRoles)
		ereport(FATAL, (errmsg("pg_seal: the probe of the server's import slots ended with status 0x%x", status)));
	ereport(
		FATAL,
		(errmsg("pg_seal: the server does not call \"%s\" through its import slot", kFileRoleNames[code - 1]),
	     errdetail("The slot was redirected, and a call of the server's own functions did not arrive."),
	     errhint("Use the PostgreSQL packages of the distribution; \"pgseal doctor --binary\" examines a server.")));
}

} // namespace seal::pg
