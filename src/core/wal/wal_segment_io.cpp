#include "seal/wal_segment_io.hpp"

#include <algorithm>
#include <cerrno>

namespace seal {

namespace {

constexpr off_t kPage = kWalPageSize;
constexpr std::uint16_t kInfoReserved = 0x4000; // bit 14: a form of a later version

bool all_zero(const std::uint8_t* bytes, std::size_t size) noexcept
{
	return size == 0 || (bytes[0] == 0 && std::memcmp(bytes, bytes + 1, size - 1) == 0);
}

std::uint64_t address_of(const WalFile& file, off_t offset) noexcept
{
	return file.start == kWalStartUnknown ? kWalStartUnknown : file.start + static_cast<std::uint64_t>(offset);
}

bool empty_body(const std::uint8_t* page) noexcept
{
	const std::size_t header = wal_header_size(wal_info(page));
	return all_zero(page + header, kWalPageSize - header);
}

} // namespace

void WalSegmentIo::forget_tail() noexcept
{
	tail_file_ = nullptr;
	tail_offset_ = -1;
	tail_plain_ = false;
	tail_generation_ = kWalPlain;
}

// By the page's own header. "plain" says only that there is a header of this very place without our mark.
WalSegmentIo::PageForm WalSegmentIo::form_of(const WalFile& file, const std::uint8_t* page, off_t page_offset) const noexcept
{
	const std::uint64_t address = wal_address(page);
	bool here = address != 0;
	if (file.start != kWalStartUnknown)
		here = here && address == address_of(file, page_offset);
	else if (file.segment_size != 0)
		here = here && address % file.segment_size == static_cast<std::uint64_t>(page_offset);
	else
		here = here && address % kWalPageSize == 0;
	if (!here)
		return PageForm::foreign;
	return wal_sealed(wal_info(page)) ? PageForm::sealed : PageForm::plain;
}

bool WalSegmentIo::fail(WalProblem problem, const std::uint8_t* page) noexcept
{
	problem_ = problem;
	problem_mark_ = wal_mark(wal_info(page));
	problem_address_ = wal_address(page);
	errno = EIO;
	return false;
}

bool WalSegmentIo::open_page(const WalFile& file, std::uint8_t* page, off_t page_offset) noexcept
{
	const std::uint16_t info = wal_info(page);
	if (form_of(file, page, page_offset) != PageForm::sealed) {
		// Another segment's, left there when the file was recycled: PostgreSQL shall stumble over the address, as it always does.
		if (wal_sealed(info) && wal_address(page) % kWalPageSize == 0)
			wal_set_info(page, static_cast<std::uint16_t>(info & kWalPlainInfo));
		return true;
	}
	std::uint32_t generation;
	WalCipher* const cipher = info & kInfoReserved ? nullptr : keys_.by_mark(wal_mark(info), &generation);
	if (cipher == nullptr)
		return fail(WalProblem::unknown_key, page);
	return cipher->open(page) || fail(WalProblem::cipher, page);
}

// --- reading ---

// Whole pages, from an aligned offset. A piece of a page at the end of the file is given back only if it is in clear.
ssize_t WalSegmentIo::read_whole(WalFile& file, std::uint8_t* into, std::size_t size, off_t offset) noexcept
{
	const ssize_t got = raw_.read(file.fd, into, size, offset, address_of(file, offset));
	if (got <= 0)
		return got;
	std::size_t done = 0;
	for (; done + kWalPageSize <= static_cast<std::size_t>(got); done += kWalPageSize)
		if (!open_page(file, into + done, offset + static_cast<off_t>(done)))
			return -1;
	const std::size_t rest = static_cast<std::size_t>(got) - done;
	if (rest >= kWalShortHeader && form_of(file, into + done, offset + static_cast<off_t>(done)) == PageForm::sealed)
		return static_cast<ssize_t>(done);
	return got;
}

ssize_t WalSegmentIo::pread(WalFile& file, void* buffer, std::size_t size, off_t offset) noexcept
{
	problem_ = WalProblem::none;
	std::uint8_t* const into = static_cast<std::uint8_t*>(buffer);
	if (offset % kPage == 0 && size % kWalPageSize == 0)
		return read_whole(file, into, size, offset);
	// Any other range: the pages that it touches, some at a time.
	std::size_t done = 0;
	while (done < size) {
		const off_t at = offset + static_cast<off_t>(done);
		const off_t first = at / kPage * kPage;
		const std::size_t skip = static_cast<std::size_t>(at - first);
		const std::size_t pages = std::min((skip + (size - done) + kWalPageSize - 1) / kWalPageSize, kChunkPages);
		const ssize_t got = read_whole(file, scratch_, pages * kWalPageSize, first);
		if (got < 0)
			return problem_ != WalProblem::none || done == 0 ? -1 : static_cast<ssize_t>(done);
		if (static_cast<std::size_t>(got) <= skip)
			break;
		const std::size_t part = std::min(static_cast<std::size_t>(got) - skip, size - done);
		std::memcpy(into + done, scratch_ + skip, part);
		done += part;
		if (static_cast<std::size_t>(got) < pages * kWalPageSize)
			break;
	}
	return static_cast<ssize_t>(done);
}

// --- writing ---

// Everything, or -1; a full disk is ENOSPC.
ssize_t WalSegmentIo::write_all(const WalFile& file, const std::uint8_t* from, std::size_t size, off_t offset) noexcept
{
	std::size_t done = 0;
	while (done < size) {
		errno = 0;
		const off_t at = offset + static_cast<off_t>(done);
		const ssize_t n = raw_.write(file.fd, from + done, size - done, at, address_of(file, at));
		if (n > 0) {
			done += static_cast<std::size_t>(n);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (errno == 0)
			errno = ENOSPC;
		return -1;
	}
	return static_cast<ssize_t>(done);
}

// A segment recycled from WAL in clear, which a sealed one now takes over: what it holds shall not stay behind its end.
bool WalSegmentIo::wipe_segment(const WalFile& file) noexcept
{
	std::memset(scratch_, 0, sizeof scratch_);
	for (std::size_t at = 0; at < file.segment_size; at += sizeof scratch_) {
		const std::size_t size = std::min(sizeof scratch_, file.segment_size - at);
		if (write_all(file, scratch_, size, static_cast<off_t>(at)) < 0)
			return false;
	}
	return true;
}

// Once per segment: its first page on disk tells, if it belongs to this segment and holds anything.
bool WalSegmentIo::decide(WalFile& file, off_t page_offset) noexcept
{
	if (file.decided)
		return true;
	file.generation = keys_.newest();
	if (file.start != kWalStartUnknown || page_offset > 0) {
		const ssize_t got = raw_.read(file.fd, scratch_, kWalPageSize, 0, address_of(file, 0));
		if (got < 0)
			return false;
		if (got == kPage) {
			const PageForm form = form_of(file, scratch_, 0);
			if (form == PageForm::sealed && keys_.by_mark(wal_mark(wal_info(scratch_)), &file.generation) == nullptr)
				return fail(WalProblem::unknown_key, scratch_);
			if (form == PageForm::plain) // a sealed segment's first page is sealed also when it holds nothing
				file.generation = kWalPlain;
			const bool leftover = form == PageForm::foreign && !wal_sealed(wal_info(scratch_)) && !all_zero(scratch_, kWalPageSize);
			if (leftover && page_offset == 0 && file.generation != kWalPlain && !wipe_segment(file))
				return false;
		}
	}
	file.decided = true;
	return true;
}

// A page of another place, which no reader takes for WAL: zeroes do as well. PostgreSQL 15 fills a segment copied up to a timeline switch with
// repetitions of its last page. And a standby that has replayed the end of a segment (XLOG_SWITCH) before the rest of it came hands on to
// its own standbys what a former life of the file left there.
bool WalSegmentIo::means_nothing(const WalFile& file, const std::uint8_t* page, off_t page_offset) const noexcept
{
	const std::uint64_t address = wal_address(page);
	return page_offset > 0 && (file.start == kWalStartUnknown ||
	                           (address != 0 && address % kWalPageSize == 0 && address < file.start));
}

// What lies on disk for a page in clear. Pages that must not be sealed (no contents, sealed already) are copied.
bool WalSegmentIo::seal_page(WalFile& file, const std::uint8_t* plain, std::uint8_t* out, off_t page_offset,
                             std::uint32_t generation) noexcept
{
	const PageForm form = form_of(file, plain, page_offset);
	if (generation == kWalPlain || form == PageForm::sealed ||
	    (form == PageForm::plain && page_offset > 0 && empty_body(plain)) || // the first page tells what the segment is
	    (form == PageForm::foreign && all_zero(plain, kWalPageSize))) {
		std::memcpy(out, plain, kWalPageSize);
		return true;
	}
	if (form == PageForm::foreign && means_nothing(file, plain, page_offset)) {
		std::memset(out, 0, kWalPageSize);
		return true;
	}
	if (form == PageForm::foreign)
		return fail(WalProblem::not_wal, plain);
	std::uint32_t known;
	WalCipher* const cipher = keys_.by_mark(static_cast<std::uint16_t>(generation % kWalGenerations), &known);
	if (cipher == nullptr || known != generation) {
		fail(WalProblem::unknown_key, plain);
		problem_mark_ = static_cast<std::uint16_t>(generation % kWalGenerations);
		return false;
	}
	return cipher->seal(plain, out, generation) || fail(WalProblem::cipher, plain);
}

ssize_t WalSegmentIo::write_whole(WalFile& file, const std::uint8_t* from, std::size_t pages, off_t offset) noexcept
{
	std::size_t done = 0;
	if (tail_file_ == &file && tail_offset_ >= offset && tail_offset_ < offset + static_cast<off_t>(pages) * kPage)
		forget_tail();
	while (done < pages) {
		const std::size_t chunk = std::min(pages - done, kChunkPages);
		const off_t at = offset + static_cast<off_t>(done) * kPage;
		for (std::size_t i = 0; i < chunk; i++) // before scratch_ fills: decide() reads into it
			if (const off_t page_at = at + static_cast<off_t>(i) * kPage;
			    form_of(file, from + (done + i) * kWalPageSize, page_at) != PageForm::foreign && !decide(file, page_at))
				return -1;
		for (std::size_t i = 0; i < chunk; i++) {
			// Whoever fills the page goes on meanwhile: what is judged, sealed and written must be one copy.
			std::memcpy(page_, from + (done + i) * kWalPageSize, kWalPageSize);
			const std::uint32_t generation = file.decided ? file.generation : keys_.newest();
			if (!seal_page(file, page_, scratch_ + i * kWalPageSize, at + static_cast<off_t>(i) * kPage, generation))
				return -1;
		}
		if (write_all(file, scratch_, chunk * kWalPageSize, at) < 0)
			return done == 0 ? -1 : static_cast<ssize_t>(done * kWalPageSize);
		done += chunk;
	}
	return static_cast<ssize_t>(done * kWalPageSize);
}

// tail_ becomes the page in clear as it lies on disk; `before`: bytes of it that precede the ones to be written.
bool WalSegmentIo::load_tail(WalFile& file, off_t page_offset, std::size_t before) noexcept
{
	if (tail_file_ == &file && tail_offset_ == page_offset)
		return true;
	forget_tail();
	const ssize_t got = raw_.read(file.fd, tail_, kWalPageSize, page_offset, address_of(file, page_offset));
	if (got < 0)
		return false;
	std::memset(tail_ + got, 0, kWalPageSize - static_cast<std::size_t>(got));
	switch (form_of(file, tail_, page_offset)) {
	case PageForm::sealed: {
		const std::uint16_t mark = wal_mark(wal_info(tail_));
		if (!open_page(file, tail_, page_offset) || keys_.by_mark(mark, &tail_generation_) == nullptr)
			return false;
		break;
	}
	case PageForm::plain: tail_plain_ = !empty_body(tail_); break;
	case PageForm::foreign: {
		// What an earlier life of the file left here is not this page's. A header in part is: its first bytes lie in clear.
		const std::size_t keep = std::min(before, kWalShortHeader);
		std::memset(tail_ + keep, 0, kWalPageSize - keep);
	}
	}
	tail_file_ = &file;
	tail_offset_ = page_offset;
	return true;
}

bool WalSegmentIo::write_part(WalFile& file, const std::uint8_t* from, std::size_t size, off_t offset) noexcept
{
	const off_t page_offset = offset / kPage * kPage;
	const std::size_t skip = static_cast<std::size_t>(offset - page_offset);
	if (!load_tail(file, page_offset, skip))
		return false;
	std::memcpy(tail_ + skip, from, size);
	const bool complete = form_of(file, tail_, page_offset) != PageForm::foreign && skip + size >= wal_header_size(wal_info(tail_));
	const bool only_header = skip + size <= kWalLongHeader;
	if (complete && !decide(file, page_offset))
		return false;
	const bool was_sealed = tail_generation_ != kWalPlain;
	const std::uint32_t generation = was_sealed ? tail_generation_ : file.decided ? file.generation : keys_.newest();
	bool done;
	if (page_offset == 0 && !complete && only_header && generation != kWalPlain) {
		done = true; // the first page appears sealed or not at all; whoever writes parts begins a segment at its beginning
	} else if (tail_plain_ || generation == kWalPlain || (!complete && !was_sealed && (only_header || all_zero(from, size)))) {
		done = write_all(file, from, size, offset) >= 0;
	} else {
		done = seal_page(file, tail_, scratch_, page_offset, generation) &&
		       write_all(file, scratch_, kWalPageSize, page_offset) >= 0;
	}
	if (!done)
		forget_tail();
	return done;
}

ssize_t WalSegmentIo::pwrite(WalFile& file, const void* buffer, std::size_t size, off_t offset) noexcept
{
	problem_ = WalProblem::none;
	const std::uint8_t* const from = static_cast<const std::uint8_t*>(buffer);
	std::size_t done = 0;
	while (done < size) {
		const off_t at = offset + static_cast<off_t>(done);
		const std::size_t left = size - done;
		const std::size_t skip = static_cast<std::size_t>(at % kPage);
		if (skip == 0 && left >= kWalPageSize) {
			const ssize_t n = write_whole(file, from + done, left / kWalPageSize, at);
			if (n < 0)
				return done == 0 || problem_ != WalProblem::none ? -1 : static_cast<ssize_t>(done);
			done += static_cast<std::size_t>(n);
			if (static_cast<std::size_t>(n) < left / kWalPageSize * kWalPageSize)
				break;
			continue;
		}
		const std::size_t part = std::min(kWalPageSize - skip, left);
		if (!write_part(file, from + done, part, at))
			return done == 0 || problem_ != WalProblem::none ? -1 : static_cast<ssize_t>(done);
		done += part;
	}
	return static_cast<ssize_t>(done);
}

} // namespace seal
