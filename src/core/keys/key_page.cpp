// The pages of a key file. To PostgreSQL's tools each is an ordinary page that is full from end to end (pd_lower =
// pd_upper = pd_special = page size): pg_checksums and base backups verify it and never take any of it for free space.
#include "seal/key_slot.hpp"

#include <cstring>

namespace seal {

namespace {

constexpr std::size_t kLowerOffset = 12, kSpecialOffset = 16, kVersionOffset = 18;
constexpr std::uint16_t kPageSizeAndVersion = kPageSize | 4; // layout version 4: PostgreSQL 8.3 and later
constexpr std::uint32_t kKeyFileFormat = 1;

void put_u16(std::uint8_t* page, std::size_t at, std::uint16_t v) noexcept { std::memcpy(page + at, &v, sizeof v); }
std::uint16_t get_u16(const std::uint8_t* page, std::size_t at) noexcept
{
	std::uint16_t v;
	std::memcpy(&v, page + at, sizeof v);
	return v;
}

static_assert(kSlotOffset + kSlotsPerPage * kSlotSize == kPageSize);
static_assert(kSlotOffset % kSlotSize == 0 && 512 % kSlotSize == 0, "no slot crosses a 512-byte sector");

} // namespace

void key_page_init(std::uint8_t* page, const std::uint8_t file_id[16]) noexcept
{
	std::memset(page, 0, kPageSize);
	put_u16(page, kLowerOffset, kPageSize);
	put_u16(page, kPageUpperOffset, kPageSize);
	put_u16(page, kSpecialOffset, kPageSize);
	put_u16(page, kVersionOffset, kPageSizeAndVersion);
	KeyFilePageInfo info{};
	std::memcpy(info.magic, kKeyFileMagic, sizeof info.magic);
	info.format = kKeyFileFormat;
	std::memcpy(info.file_id, file_id, sizeof info.file_id);
	std::memcpy(page + kPageHeaderSize, &info, sizeof info);
}

bool key_page_valid(const std::uint8_t* page) noexcept
{
	KeyFilePageInfo info;
	std::memcpy(&info, page + kPageHeaderSize, sizeof info);
	return get_u16(page, kPageFlagsOffset) == 0 && get_u16(page, kLowerOffset) == kPageSize &&
	       get_u16(page, kPageUpperOffset) == kPageSize && get_u16(page, kSpecialOffset) == kPageSize &&
	       get_u16(page, kVersionOffset) == kPageSizeAndVersion &&
	       std::memcmp(info.magic, kKeyFileMagic, sizeof info.magic) == 0 && info.format == kKeyFileFormat;
}

} // namespace seal
