// The queue of NOTIFY (pg_notify): channel names and payloads, in segments of 8 KiB pages that the server emptied when it started.
//
// Each page is one data unit of AES-256-XTS; key and tweak as for temporary files (temp_file.cpp): path and page number. A page is rewritten in
// place as notifications are added, and page numbers come again when the queue wraps: XTS bears both. Several processes may write
// different pages of a segment at once (the server's page locks guard each), so nothing but the page itself is ever read or written here. A page that
// is all zero on disk is a hole before a page written earlier, and reads as zeroes: a sealed page is all zero once in 2^65536 times.
#include "../files/file_seam.hpp"
#include "temp_seed.hpp"

#include "seal/page_cipher.hpp"
#include "seal/temp_path.hpp"

#include <cerrno>

namespace seal::pg {

namespace {

static_assert(BLCKSZ == kTempUnitSize);

TempFileId ids[kMaxClassedDescriptor];
alignas(64) uint8 sealed[BLCKSZ];

bool notify_claims(const char* path, int) noexcept
{
	return temp_files_sealed() && classify_temp_path(path, DataDir ? DataDir : "").kind == TempPathKind::notify;
}

bool notify_opened(int fd, const char* path, int) noexcept
{
	TempCipher* const cipher = temp_cipher();
	if (!cipher)
		return false;
	const std::string_view name = classify_temp_path(path, DataDir ? DataDir : "").relative;
	if (cipher->file_id(name.data(), name.size(), ids[fd]))
		return true;
	errno = EIO;
	return false;
}

bool is_page(size_t size, off_t offset) noexcept
{
	if (size == BLCKSZ && offset >= 0 && offset % BLCKSZ == 0 && static_cast<uint64>(offset / BLCKSZ) < kTempUnits)
		return true;
	errno = EINVAL;
	return false;
}

ssize_t notify_pread(int fd, void* buffer, size_t size, off_t offset) noexcept
{
	if (!is_page(size, offset))
		return -1;
	uint8* const page = static_cast<uint8*>(buffer);
	const ssize_t got = stock::pread(fd, page, size, offset);
	if (got != BLCKSZ || page_is_zero(page))
		return got; // the caller takes a part of a page for an error
	if (temp_cipher()->open_unit(ids[fd], static_cast<uint32>(offset / BLCKSZ), page, page, BLCKSZ))
		return got;
	errno = EIO;
	return -1;
}

ssize_t notify_pwrite(int fd, const void* buffer, size_t size, off_t offset) noexcept
{
	if (!is_page(size, offset))
		return -1;
	if (temp_cipher()->seal_unit(ids[fd], static_cast<uint32>(offset / BLCKSZ), static_cast<const uint8*>(buffer),
	                             sealed, BLCKSZ))
		return stock::pwrite(fd, sealed, size, offset);
	errno = EIO;
	return -1;
}

} // namespace

const FileKind kNotifyFileKind = {
	.name = "NOTIFY queue",
	.claims = notify_claims,
	.opened = notify_opened,
	.closing = nullptr,
	.read = nullptr,
	.write = nullptr,
	.pread = notify_pread,
	.pwrite = notify_pwrite,
	.pwritev = nullptr,
	.ftruncate = nullptr,
};

} // namespace seal::pg
