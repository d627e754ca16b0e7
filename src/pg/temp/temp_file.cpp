// Temporary files: everything the server opens in a pgsql_tmp directory (sorts, hashes, tuplestores, CREATE INDEX, holdable cursors, filesets that
// parallel workers share by name, the apply worker's streamed changes).
//
// Why (key, tweak) pairs are used as they may: the key belongs to one start of the server; the tweak is a hash of the path within the data directory
// and the number of the 8 KiB unit (seal/temp_cipher.hpp). The path is the one identity that all processes share and that survives the
// closing and reopening of virtual descriptors; the server renames no such file, so a file's path is the same for its whole life. At one
// time a path is one file, and a path has different contents at different times only as a block has that is rewritten in place (a sort reuses its
// blocks; a process id comes again after many others). XTS is made for that: without the key an observer of two states learns which 16-byte
// granules at one place are equal, nothing else.
//
// The server's own rule for these files is one writer at a time, and reading only what was finished before (barriers of parallel hash
// joins, the end of a worker's sort); seal/temp_file_io.hpp needs no more.
#include "../files/file_seam.hpp"
#include "../vault/vault.hpp"
#include "temp_seed.hpp"

#include "seal/temp_file_io.hpp"
#include "seal/temp_path.hpp"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>

namespace seal::pg {

namespace {

class StockIo final : public TempRawIo {
public:
	ssize_t read(int fd, void* buffer, std::size_t size, off_t offset) noexcept override
	{
		return stock::pread(fd, buffer, size, offset);
	}
	ssize_t write(int fd, const void* buffer, std::size_t size, off_t offset) noexcept override
	{
		return stock::pwrite(fd, buffer, size, offset);
	}
	int truncate(int fd, off_t size) noexcept override { return stock::ftruncate(fd, size); }
	off_t size(int fd) noexcept override
	{
		struct stat status;
		return fstat(fd, &status) == 0 ? status.st_size : -1;
	}
};

constinit StockIo raw;
TempFileId ids[kMaxClassedDescriptor]; // of the descriptors that are ours
TempFileIo* io = nullptr;

// The one TempFileIo of the process, made at its first temporary file; 180 KiB of zeroes until they are used.
TempFileIo* make_io(TempCipher& cipher) noexcept
{
	alignas(TempFileIo) static std::byte place[sizeof(TempFileIo)];
	TempFileIo* const made = new (place) TempFileIo(cipher, raw);
	made->share(vault_temp_changes());
	return made;
}

bool temp_claims(const char* path, int) noexcept
{
	return temp_files_sealed() && classify_temp_path(path, DataDir ? DataDir : "").kind == TempPathKind::temporary;
}

bool temp_opened(int fd, const char* path, int flags) noexcept
{
	TempCipher* const cipher = temp_cipher();
	if (!cipher)
		return false;
	if (!io)
		io = make_io(*cipher);
	const std::string_view name = classify_temp_path(path, DataDir ? DataDir : "").relative;
	if (!cipher->file_id(name.data(), name.size(), ids[fd])) {
		errno = EIO;
		return false;
	}
	if ((flags & (O_CREAT | O_TRUNC)) != 0)
		io->changed(ids[fd]); // perhaps another file than the last one of this path
	return true;
}

TempFile file_of(int fd) noexcept { return {fd, ids[fd]}; }

ssize_t temp_pread(int fd, void* buffer, size_t size, off_t offset) noexcept
{
	return io->pread(file_of(fd), buffer, size, offset);
}

ssize_t temp_pwrite(int fd, const void* buffer, size_t size, off_t offset) noexcept
{
	return io->pwrite(file_of(fd), buffer, size, offset);
}

int temp_ftruncate(int fd, off_t size) noexcept { return io->ftruncate(file_of(fd), size); }

} // namespace

// The server reads and writes these files through virtual descriptors, with offsets; it has no other call for them.
const FileKind kTempFileKind = {
	.name = "temporary file",
	.claims = temp_claims,
	.opened = temp_opened,
	.closing = nullptr,
	.read = nullptr,
	.write = nullptr,
	.pread = temp_pread,
	.pwrite = temp_pwrite,
	.pwritev = nullptr,
	.ftruncate = temp_ftruncate,
};

} // namespace seal::pg
