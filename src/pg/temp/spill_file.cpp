// Spill files of logical decoding (pg_replslot/SLOT/*.spill): changes of large transactions, written by write(2) in odd sizes to a descriptor
// that only appends, read back with offsets, deleted when the transaction is done or the server starts.
//
// AES-256-CTR with a nonce of 16 random bytes that each new file begins with; the server's offset n is 16 + n on disk. The server writes to the end
// only and never over anything, so a counter block encrypts one granule of one file (seal/temp_cipher.hpp for two files meeting). The same
// name is made again by each later decoding of the transaction, always after the old file was deleted: it draws a new nonce, and a file that is
// opened again keeps its own. A write that failed half-way leaves bytes that nothing overwrites.
//
// One process has a slot, so one process has its files. The position is taken from the file's size at each write, not remembered.
#include "../files/file_seam.hpp"
#include "temp_seed.hpp"

#include "seal/crypto.hpp"
#include "seal/temp_path.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>

namespace seal::pg {

namespace {

struct Nonce {
	uint8 bytes[kStreamNonceSize];
};
Nonce nonces[kMaxClassedDescriptor]; // of the descriptors that are ours
alignas(64) uint8 scratch[65536];

bool fail(int reason) noexcept
{
	errno = reason;
	return false;
}

bool spill_claims(const char* path, int) noexcept
{
	return temp_files_sealed() && classify_temp_path(path, DataDir ? DataDir : "").kind == TempPathKind::spill;
}

bool put(int fd, const uint8* bytes, size_t size) noexcept
{
	while (size > 0) {
		const ssize_t done = stock::write(fd, bytes, size);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? false : fail(ENOSPC);
		bytes += done;
		size -= static_cast<size_t>(done);
	}
	return true;
}

// A file that is written to is open for nothing else: its beginning is read through a descriptor of its own.
bool read_nonce(const char* path, Nonce& nonce) noexcept
{
	const int fd = stock::open(path, O_RDONLY, 0);
	if (fd < 0)
		return false;
	const ssize_t got = stock::pread(fd, nonce.bytes, sizeof nonce.bytes, 0);
	const int reason = got < 0 ? errno : EIO;
	stock::close(fd);
	return got == static_cast<ssize_t>(sizeof nonce.bytes) || fail(reason);
}

bool spill_opened(int fd, const char* path, int flags) noexcept
{
	struct stat status;
	if (!temp_cipher() || fstat(fd, &status) != 0)
		return false;
	if (status.st_size > 0)
		return read_nonce(path, nonces[fd]);
	if ((flags & O_ACCMODE) == O_RDONLY)
		return fail(EIO); // the server reads only what it wrote
	return random_bytes(nonces[fd].bytes) ? put(fd, nonces[fd].bytes, sizeof nonces[fd].bytes) : fail(EIO);
}

// All of it or -1: the server gives the transaction up either way.
ssize_t spill_write(int fd, const void* buffer, size_t size) noexcept
{
	const uint8* const from = static_cast<const uint8*>(buffer);
	struct stat status;
	if (fstat(fd, &status) != 0)
		return -1;
	uint64 position = static_cast<uint64>(status.st_size) - kStreamNonceSize;
	for (size_t done = 0; done < size;) {
		const size_t part = std::min(size - done, sizeof scratch);
		if (!temp_cipher()->stream(nonces[fd].bytes, position, from + done, scratch, part))
			return fail(EIO) ? 0 : -1;
		if (!put(fd, scratch, part))
			return -1;
		done += part;
		position += part;
	}
	return static_cast<ssize_t>(size);
}

ssize_t spill_pread(int fd, void* buffer, size_t size, off_t offset) noexcept
{
	uint8* const out = static_cast<uint8*>(buffer);
	const ssize_t got = stock::pread(fd, out, size, offset + static_cast<off_t>(kStreamNonceSize));
	if (got > 0 &&
	    !temp_cipher()->stream(nonces[fd].bytes, static_cast<uint64>(offset), out, out, static_cast<size_t>(got)))
		return fail(EIO) ? 0 : -1;
	return got;
}

} // namespace

const FileKind kSpillFileKind = {
	.name = "spill file",
	.claims = spill_claims,
	.opened = spill_opened,
	.closing = nullptr,
	.read = nullptr,
	.write = spill_write,
	.pread = spill_pread,
	.pwrite = nullptr,
	.pwritev = nullptr,
	.ftruncate = nullptr,
};

} // namespace seal::pg
