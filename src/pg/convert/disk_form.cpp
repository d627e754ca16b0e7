#include "disk_form.hpp"

#include "seal/page_cipher.hpp"

extern "C" {
#include "storage/fd.h"
}

#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace seal::pg {

namespace {

constexpr BlockNumber kReadBlocks = 128; // 1 MiB a read

void segment_path(const RelFileNode& node, ForkNumber fork, BlockNumber segment, char path[MAXPGPATH])
{
	char* base = relpathperm(node, fork);
	if (segment == 0)
		strlcpy(path, base, MAXPGPATH);
	else
		snprintf(path, MAXPGPATH, "%s.%u", base, segment);
	pfree(base);
}

uint16 flags_of(const uint8* page) noexcept
{
	uint16 flags;
	memcpy(&flags, page + kPageFlagsOffset, sizeof flags);
	return flags;
}

bool in_form(const uint8* page, KeyForm wanted) noexcept
{
	const uint16 flags = flags_of(page);
	if (!flags_sealed(flags))
		return wanted.cipher == CipherId::none || page_is_zero(page);
	const PageMark mark = flags_mark(flags);
	return mark.cipher == wanted.cipher && mark.generation == wanted.generation;
}

// Calls `look(block, page)` for each page in [from, to); returns how many there are.
template <class Look> BlockNumber each_page(const RelFileNode& node, ForkNumber fork, BlockNumber from, BlockNumber to, Look look)
{
	alignas(4096) static uint8 buffer[kReadBlocks * kPageSize];
	BlockNumber next = from;
	int fd = -1;
	while (next < to) {
		char path[MAXPGPATH];
		segment_path(node, fork, next / RELSEG_SIZE, path);
		if (fd < 0)
			fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
		if (fd < 0) {
			if (errno == ENOENT)
				break;
			ereport(ERROR, (errcode_for_file_access(), errmsg("could not open file \"%s\": %m", path)));
		}
		const BlockNumber in_segment = next % RELSEG_SIZE;
		const BlockNumber ask = Min(Min(to - next, kReadBlocks), RELSEG_SIZE - in_segment);
		const ssize_t got = pg_pread(fd, buffer, ask * kPageSize, static_cast<off_t>(in_segment) * BLCKSZ);
		if (got < 0)
			ereport(ERROR, (errcode_for_file_access(), errmsg("could not read file \"%s\": %m", path)));
		const auto pages = static_cast<BlockNumber>(got / BLCKSZ);
		for (BlockNumber i = 0; i < pages; ++i)
			look(next + i, static_cast<const uint8*>(buffer + i * kPageSize));
		next += pages;
		if (pages < ask || next % RELSEG_SIZE == 0) {
			CloseTransientFile(fd);
			fd = -1;
			if (pages < ask)
				break;
		}
	}
	if (fd >= 0)
		CloseTransientFile(fd);
	return next - from;
}

} // namespace

BlockNumber disk_blocks(const RelFileNode& node, ForkNumber fork)
{
	BlockNumber blocks = 0;
	for (BlockNumber segment = 0;; ++segment) {
		char path[MAXPGPATH];
		struct stat st;
		segment_path(node, fork, segment, path);
		if (stat(path, &st) != 0) {
			if (errno == ENOENT)
				return blocks;
			ereport(ERROR, (errcode_for_file_access(), errmsg("could not stat file \"%s\": %m", path)));
		}
		blocks += static_cast<BlockNumber>(st.st_size / BLCKSZ);
		if (st.st_size < static_cast<off_t>(RELSEG_SIZE) * BLCKSZ)
			return blocks;
	}
}

BlockNumber disk_blocks_not_in_form(const RelFileNode& node, ForkNumber fork, BlockNumber from, BlockNumber to, KeyForm wanted,
                                    BlockVisitor visit, void* arg)
{
	return each_page(node, fork, from, to, [&](BlockNumber block, const uint8* page) {
		if (!in_form(page, wanted))
			visit(block, arg);
	});
}

void disk_blocks_throwaway(const RelFileNode& node, ForkNumber fork, BlockVisitor visit, void* arg)
{
	(void)each_page(node, fork, 0, disk_blocks(node, fork), [&](BlockNumber block, const uint8* page) {
		const uint16 flags = flags_of(page);
		if (flags_sealed(flags) && flags_mark(flags).cipher == CipherId::throwaway)
			visit(block, arg);
	});
}

bool disk_page_is_plain(const RelFileNode& node, ForkNumber fork, BlockNumber block)
{
	alignas(8) uint8 page[kPageSize]; // its own: a walk over another relation may be under way
	char path[MAXPGPATH];
	segment_path(node, fork, block / RELSEG_SIZE, path);
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return false;
	const ssize_t got = fd < 0 ? -1 : pread(fd, page, sizeof page, static_cast<off_t>(block % RELSEG_SIZE) * BLCKSZ);
	const int saved = errno;
	if (fd >= 0)
		close(fd);
	errno = saved;
	if (got < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not read file \"%s\": %m", path)));
	return got == static_cast<ssize_t>(sizeof page) && !flags_sealed(flags_of(page)) && !page_is_zero(page);
}

} // namespace seal::pg
