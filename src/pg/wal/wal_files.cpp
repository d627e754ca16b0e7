// The file kind of WAL: segments in pg_wal, and the file that becomes one at a timeline switch. What the server writes there is sealed, what it
// reads is opened (seal/wal_segment_io.hpp); archiver and base backup get the bytes as they lie.
//
// Everything here may run in a critical section: no allocation, and the only ways out on failure are errno and an error that a critical
// section makes a PANIC. WAL that cannot be opened for want of its key is an error that says so: never a quiet end of WAL.
#include "../files/file_seam.hpp"
#include "../registry/registry_store.hpp"
#include "../vault/vault.hpp"
#include "wal_keys.hpp"
#include "wal_race.hpp"
#include "wal_receivers.hpp"

extern "C" {
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "miscadmin.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "tcop/tcopprot.h"
}

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace seal::pg {

namespace {

static_assert(XLOG_BLCKSZ == kWalPageSize && SizeOfXLogShortPHD == kWalShortHeader && SizeOfXLogLongPHD == kWalLongHeader);
static_assert(offsetof(XLogPageHeaderData, xlp_info) == kWalInfoOffset && offsetof(XLogPageHeaderData, xlp_tli) == kWalTimelineOffset &&
              offsetof(XLogPageHeaderData, xlp_pageaddr) == kWalAddressOffset &&
              offsetof(XLogLongPageHeaderData, xlp_seg_size) == kWalSegmentSizeOffset);
static_assert(XLP_ALL_FLAGS == kWalPlainInfo && XLP_LONG_HEADER == kWalLongInfo);

constexpr char kDirectory[] = XLOGDIR "/";
constexpr char kTemporaryPrefix[] = "xlogtemp."; // segments are made under this name, and timeline history files are written
constexpr int kOpenFiles = 16;                   // a process has one or two

struct OpenFile : WalFile {
	bool temporary = false; // nothing was written to it yet that tells what it is to be
	bool history = false;
};
OpenFile files[kOpenFiles]; // fd < 0: free

WalSegmentIo& io() noexcept
{
	static WalSegmentIo one(wal_keys(), wal_raw_io());
	return one;
}

OpenFile* find(int fd) noexcept
{
	for (OpenFile& file : files)
		if (file.fd == fd)
			return &file;
	return nullptr;
}

// Archives and backups hold segments as they lie on disk. A walsender stays in state "backup" after one, so its present command counts.
bool takes_bytes_as_they_lie() noexcept
{
	if (MyBackendType == B_ARCHIVER)
		return true;
	if (!am_walsender || !MyWalSnd || MyWalSnd->state != WALSNDSTATE_BACKUP || !debug_query_string)
		return false;
	const char* command = debug_query_string;
	while (*command == ' ' || *command == '\t' || *command == '\n' || *command == '\r')
		command++;
	return pg_strncasecmp(command, "BASE_BACKUP", 11) == 0;
}

bool claims(const char* path, int flags) noexcept
{
	if (strncmp(path, kDirectory, sizeof kDirectory - 1) != 0)
		return false;
	const char* const name = path + sizeof kDirectory - 1;
	if (!IsXLogFileName(name) && strncmp(name, kTemporaryPrefix, sizeof kTemporaryPrefix - 1) != 0)
		return false;
	// Any process writes WAL at times, a walsender amid a base backup too, and in a critical section: none of the rest is for it.
	if ((flags & O_ACCMODE) != O_RDONLY)
		return true;
	if (takes_bytes_as_they_lie())
		return false;
	wal_receiver_check(); // may raise: here, where no descriptor is open yet
	return true;
}

bool opened(int fd, const char* path, int) noexcept
{
	OpenFile* const file = find(-1);
	if (!file) {
		errno = EMFILE;
		return false;
	}
	*file = {};
	file->fd = fd;
	file->segment_size = static_cast<uint32>(wal_segment_size);
	const char* const name = path + sizeof kDirectory - 1;
	if (IsXLogFileName(name)) {
		TimeLineID timeline;
		XLogSegNo segment;
		XLogFromFileName(name, &timeline, &segment, wal_segment_size);
		file->start = segment * static_cast<uint64>(wal_segment_size);
	} else {
		file->temporary = true;
	}
	return true;
}

// A segment that is copied begins with a whole page of WAL; a timeline's history is text. (A new segment's zeroes tell nothing.)
bool is_history(OpenFile& file, const void* buffer, size_t size, off_t offset) noexcept
{
	if (file.temporary && offset == 0) {
		uint16 magic = 0;
		memcpy(&magic, buffer, std::min(size, sizeof magic));
		file.history = magic != XLOG_PAGE_MAGIC && magic != 0;
		file.temporary = magic == 0;
	}
	return file.history;
}

void closing(int fd) noexcept
{
	if (OpenFile* const file = find(fd)) {
		io().forget_tail();
		*file = {};
	}
}

// A key, or the library, is missing. Returns when it is there now and the call is worth repeating.
void report(const char* doing)
{
	const uint32 mark = io().problem_mark();
	const XLogRecPtr at = io().problem_address();
	switch (io().problem()) {
	case WalProblem::none: return;
	case WalProblem::unknown_key:
		if (wal_key_await(static_cast<uint16>(mark)))
			return;
		ereport(AmStartupProcess() ? PANIC : ERROR,
		        (errcode(ERRCODE_CONFIG_FILE_ERROR),
		         errmsg("could not %s WAL at %X/%X: its page is sealed with generation %u of the WAL key, which is not there", doing,
		                static_cast<uint32>(at >> 32), static_cast<uint32>(at), mark),
		         errhint("The key is in pg_seal/registry of the node that wrote this WAL. Restore that file from a backup or copy it from that "
		                 "node; seal.wal_keys and seal.health tell what is loaded. Nothing behind this place was replayed.")));
		break;
	case WalProblem::cipher:
		ereport(AmStartupProcess() ? PANIC : ERROR,
		        (errmsg("could not %s WAL at %X/%X: the cryptographic library refused", doing, static_cast<uint32>(at >> 32), static_cast<uint32>(at))));
		break;
	case WalProblem::not_wal:
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
		                errmsg("could not %s WAL: what was to be sealed is no WAL page of this place (address %X/%X)", doing,
		                       static_cast<uint32>(at >> 32), static_cast<uint32>(at))));
	}
}

ssize_t kind_pread(int fd, void* buffer, size_t size, off_t offset) noexcept
{
	OpenFile* const file = find(fd);
	if (file->history)
		return stock::pread(fd, buffer, size, offset);
	for (;;) {
		const ssize_t got = io().pread(*file, buffer, size, offset);
		if (got >= 0 || io().problem() == WalProblem::none)
			return got;
		report("read");
	}
}

ssize_t kind_pwrite(int fd, const void* buffer, size_t size, off_t offset) noexcept
{
	// No key, none wanted: PostgreSQL's own way.
	if (!vault_any_wal_key() && wal_active_generation() == 0)
		return stock::pwrite(fd, buffer, size, offset);
	OpenFile* const file = find(fd);
	if (is_history(*file, buffer, size, offset))
		return stock::pwrite(fd, buffer, size, offset);
	for (;;) {
		const ssize_t put = io().pwrite(*file, buffer, size, offset);
		if (put >= 0 || io().problem() == WalProblem::none)
			return put;
		report("write");
	}
}

// XLogFileCopy and replication commands read and write where the descriptor stands.
ssize_t kind_read(int fd, void* buffer, size_t size) noexcept
{
	const off_t at = lseek(fd, 0, SEEK_CUR);
	if (at < 0)
		return -1;
	const ssize_t got = kind_pread(fd, buffer, size, at);
	if (got > 0 && lseek(fd, at + got, SEEK_SET) < 0)
		return -1;
	return got;
}

ssize_t kind_write(int fd, const void* buffer, size_t size) noexcept
{
	const off_t at = lseek(fd, 0, SEEK_CUR);
	if (at < 0)
		return -1;
	const ssize_t put = kind_pwrite(fd, buffer, size, at);
	if (put > 0 && lseek(fd, at + put, SEEK_SET) < 0)
		return -1;
	return put;
}

bool all_zero(const iovec& part) noexcept
{
	const char* const bytes = static_cast<const char*>(part.iov_base);
	return part.iov_len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, part.iov_len - 1) == 0);
}

// A new segment is filled with zeroes in large vectors, which need no sealing.
ssize_t kind_pwritev(int fd, const iovec* parts, int count, off_t offset) noexcept
{
	bool zeroes = true;
	for (int i = 0; i < count && zeroes; i++)
		zeroes = (i > 0 && parts[i].iov_base == parts[i - 1].iov_base && parts[i].iov_len == parts[i - 1].iov_len) || all_zero(parts[i]);
	if (zeroes)
		return stock::pwritev(fd, parts, count, offset);
	ssize_t done = 0;
	for (int i = 0; i < count; i++) {
		const ssize_t put = kind_pwrite(fd, parts[i].iov_base, parts[i].iov_len, offset + done);
		if (put < 0)
			return done > 0 ? done : -1;
		done += put;
		if (static_cast<size_t>(put) < parts[i].iov_len)
			break;
	}
	return done;
}

int kind_ftruncate(int fd, off_t size) noexcept
{
	io().forget_tail();
	return stock::ftruncate(fd, size);
}

} // namespace

const FileKind kWalFileKind = {
	.name = "WAL",
	.claims = claims,
	.opened = opened,
	.closing = closing,
	.read = kind_read,
	.write = kind_write,
	.pread = kind_pread,
	.pwrite = kind_pwrite,
	.pwritev = kind_pwritev,
	.ftruncate = kind_ftruncate,
};

} // namespace seal::pg
