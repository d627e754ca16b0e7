#include "page_scan.hpp"

#include "seal/page_cipher.hpp"

#include <cstring>

namespace seal::cli {

namespace {

constexpr std::size_t kLowerAt = 12, kUpperAt = 14, kSpecialAt = 16, kSizeVersionAt = 18;
constexpr std::uint16_t kSizeMask = 0xff00;
constexpr std::uint16_t kLayoutVersion = 4; // of every page since PostgreSQL 8.3
constexpr std::uint16_t kAlignment = 8;

std::uint16_t u16_at(const std::uint8_t* page, std::size_t at)
{
	std::uint16_t value = 0;
	std::memcpy(&value, page + at, sizeof value);
	return value;
}

bool header_possible(const std::uint8_t* page)
{
	const std::uint16_t lower = u16_at(page, kLowerAt), upper = u16_at(page, kUpperAt),
						special = u16_at(page, kSpecialAt);
	const std::uint16_t size_version = u16_at(page, kSizeVersionAt);
	return upper != 0 && lower <= upper && upper <= special && special <= kPageSize && special % kAlignment == 0 &&
	       (size_version & kSizeMask) == kPageSize && (size_version & ~kSizeMask) == kLayoutVersion;
}

} // namespace

PageVerdict judge_page(const std::uint8_t* page, std::uint32_t block, bool checksums)
{
	if (page_is_zero(page))
		return {PageKind::zero, {}, nullptr};
	const std::uint16_t flags = u16_at(page, kPageFlagsOffset);
	if (!header_possible(page))
		return {PageKind::damaged, {}, "impossible header"};
	if (checksums && u16_at(page, kPageChecksumOffset) != page_checksum(page, block))
		return {PageKind::damaged,
		        {},
		        flags_sealed(flags) && unwritten_sectors(page) != 0
		            ? "wrong checksum, with sectors of zeroes: its first write was torn, and the server opens it if "
		              "nothing is missing"
		            : "wrong checksum"};
	if (!flags_sealed(flags)) {
		if ((flags & ~kFlagsPlainMask) != 0)
			return {PageKind::damaged, {}, "impossible flags"};
		return {PageKind::plain, {}, nullptr};
	}
	const PageMark mark = flags_mark(flags);
	if (mark.cipher != CipherId::aes_256_xts && mark.cipher != CipherId::aes_128_xts)
		return {PageKind::damaged, {}, "sealed by an unknown cipher"};
	return {PageKind::sealed, mark, nullptr};
}

} // namespace seal::cli
