#include "seal/temp_file_io.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace seal {

namespace {

constexpr std::uint64_t kUnit = kTempUnitSize;
constexpr std::uint64_t kGranule = kTempGranule;
constexpr std::uint64_t kMaxSize = kTempUnits * kUnit;

constexpr std::uint64_t unit_begin(std::uint64_t offset) noexcept { return offset / kUnit * kUnit; }
constexpr std::uint32_t unit_of(std::uint64_t offset) noexcept { return static_cast<std::uint32_t>(offset / kUnit); }

bool fail(int reason) noexcept
{
	errno = reason;
	return false;
}

int minus_one(int reason) noexcept
{
	errno = reason;
	return -1;
}

} // namespace

TempChanges& TempFileIo::counter_of(const TempFileId& id) noexcept
{
	std::uint32_t hash;
	std::memcpy(&hash, id.bytes, sizeof hash);
	return changes_[hash % kTempChangeCounters];
}

void TempFileIo::changed(const TempFileId& id) noexcept { counter_of(id).fetch_add(1, std::memory_order_release); }

// A change that is known to leave the file with this size: kept, unless somebody else (or a path with the same counter) was in between.
void TempFileIo::changed_to(const TempFileId& id, std::uint64_t size) noexcept
{
	const std::uint64_t before = counter_of(id).fetch_add(1, std::memory_order_acq_rel);
	KnownSize& known = known_size(id);
	if (known.there && known.id == id && known.change == before) {
		known.change = before + 1;
		known.size = size;
	}
}

bool TempFileIo::size_of(const TempFile& file, std::uint64_t* size) noexcept
{
	KnownSize& known = known_size(file.id);
	const std::uint64_t change = counter_of(file.id).load(std::memory_order_acquire);
	if (!known.there || known.change != change || !(known.id == file.id)) {
		const off_t now = raw_.size(file.fd);
		if (now < 0)
			return false;
		known = {file.id, true, change, static_cast<std::uint64_t>(now)};
	}
	*size = known.size;
	return true;
}

// Bytes that the file has.
bool TempFileIo::read_raw(int fd, std::uint8_t* buffer, std::size_t size, std::uint64_t offset) noexcept
{
	std::size_t done = 0;
	while (done < size) {
		const ssize_t got = raw_.read(fd, buffer + done, size - done, static_cast<off_t>(offset + done));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? false : fail(EIO);
		done += static_cast<std::size_t>(got);
	}
	return true;
}

// XORs the only bytes of a file that is shorter than a granule.
bool TempFileIo::pad(const TempFileId& id, std::uint8_t* bytes, std::size_t size) noexcept
{
	std::uint8_t block[kGranule] = {static_cast<std::uint8_t>(size)};
	if (!cipher_.seal_unit(id, kTempPadUnit, block, block, sizeof block))
		return fail(EIO);
	for (std::size_t i = 0; i < size; ++i)
		bytes[i] ^= block[i];
	return true;
}

// Opens the last unit of a file when it holds less than a granule.
bool TempFileIo::open_short(const TempFile& file, std::uint32_t unit, std::uint8_t* bytes, std::size_t size) noexcept
{
	if (unit == 0)
		return pad(file.id, bytes, size);
	std::uint8_t block[kGranule];
	if (!read_raw(file.fd, block, sizeof block, unit * kUnit - kGranule))
		return false;
	if (!cipher_.open_unit(file.id, unit, block, block, sizeof block))
		return fail(EIO);
	std::memcpy(bytes, block, size);
	return true;
}

// Gives a unit's last granule back what the file's last bytes (`tail` of them, alone in the next unit) stole from it.
bool TempFileIo::open_before_tail(const TempFile& file, std::uint32_t unit, std::uint8_t* last,
                                  std::size_t tail) noexcept
{
	if (!cipher_.open_unit(file.id, unit + 1, last, last, kGranule))
		return fail(EIO);
	return read_raw(file.fd, last, tail, (unit + 1) * kUnit);
}

// Reads a unit and opens it in `plain` (room for a whole one). Returns how many bytes of it the file has, or -1.
ssize_t TempFileIo::load(const TempFile& file, std::uint32_t unit, std::uint8_t* plain) noexcept
{
	const std::uint64_t begin = unit * kUnit;
	std::uint64_t file_size;
	if (!size_of(file, &file_size))
		return -1;
	if (file_size <= begin)
		return 0;
	const std::size_t size = std::min(file_size - begin, kUnit);
	if (!read_raw(file.fd, plain, size, begin))
		return -1;
	if (size < kGranule)
		return open_short(file, unit, plain, size) ? static_cast<ssize_t>(size) : -1;
	const std::uint64_t after = file_size - begin - size;
	if (after > 0 && after < kGranule && !open_before_tail(file, unit, plain + kUnit - kGranule, after))
		return -1;
	if (!cipher_.open_unit(file.id, unit, plain, plain, size))
		return minus_one(EIO);
	return static_cast<ssize_t>(size);
}

// The same, to a place of our own that later reads may use again.
ssize_t TempFileIo::keep(const TempFile& file, std::uint32_t unit, const std::uint8_t** plain) noexcept
{
	const std::size_t place = (unit + file.id.bytes[4]) % kKeptUnits;
	KeptUnit& kept = kept_[place];
	const std::uint64_t change = counter_of(file.id).load(std::memory_order_acquire);
	*plain = kept_bytes_[place];
	if (kept.filled != 0 && kept.change == change && kept.unit == unit && kept.id == file.id)
		return static_cast<ssize_t>(kept.filled);
	kept.filled = 0;
	const ssize_t got = load(file, unit, kept_bytes_[place]);
	if (got <= 0)
		return got;
	kept = {file.id, unit, change, static_cast<std::size_t>(got)};
	return got;
}

ssize_t TempFileIo::pread(const TempFile& file, void* buffer, std::size_t size, off_t offset) noexcept
{
	if (offset < 0 || static_cast<std::uint64_t>(offset) + size > kMaxSize)
		return minus_one(EINVAL);
	std::uint8_t* const out = static_cast<std::uint8_t*>(buffer);
	std::size_t done = 0;
	while (done < size) {
		const std::uint64_t at = static_cast<std::uint64_t>(offset) + done;
		const std::size_t begin = at % kUnit;
		const std::size_t wanted = std::min<std::size_t>(size - done, kUnit - begin);
		const std::uint8_t* plain = nullptr;
		const ssize_t have = wanted == kUnit ? load(file, unit_of(at), out + done) : keep(file, unit_of(at), &plain);
		if (have < 0)
			return -1;
		const std::size_t filled = static_cast<std::size_t>(have);
		const std::size_t got = filled > begin ? std::min(wanted, filled - begin) : 0;
		if (plain && got > 0)
			std::memcpy(out + done, plain + begin, got);
		done += got;
		if (got < wanted)
			break;
	}
	return static_cast<ssize_t>(done);
}

// Bytes that the file is known to have.
bool TempFileIo::read_old(const TempFile& file, std::uint8_t* plain, std::size_t size, std::uint64_t offset) noexcept
{
	if (size == 0)
		return true;
	const ssize_t got = pread(file, plain, size, static_cast<off_t>(offset));
	return got == static_cast<ssize_t>(size) || (got >= 0 && fail(EIO));
}

// Seals the end of what stands in work_ when it is no multiple of a granule (the file's end): `last` points to its unit there.
bool TempFileIo::seal_tail(const TempFileId& id, std::uint32_t unit, std::uint8_t* last, std::size_t size) noexcept
{
	if (size >= kGranule)
		return cipher_.seal_unit(id, unit, last, last, size) || fail(EIO);
	if (unit == 0)
		return pad(id, last, size);
	std::uint8_t* const before = last - kGranule; // sealed already: the last granule of the unit before
	std::uint8_t block[kGranule];
	std::memcpy(block, before, sizeof block);
	std::memcpy(block, last, size);
	std::memcpy(last, before, size);
	return cipher_.seal_unit(id, unit, block, before, sizeof block) || fail(EIO);
}

// Writes `size` bytes (zeroes if `in` is null), at most up to kPartSize and to the end of a unit, at `at`, which lies within the file or at its end.
bool TempFileIo::write_part(const TempFile& file, const std::uint8_t* in, std::size_t size, std::uint64_t at,
                            std::uint64_t file_size) noexcept
{
	const std::uint64_t end = at + size, new_size = std::max(file_size, end);
	// The granules to be written: those touched, and where one of the last two is among them, both, with the one
	// before a new end.
	std::uint64_t first = at / kGranule, beyond = (end + kGranule - 1) / kGranule;
	const std::uint64_t old_whole = file_size / kGranule, new_whole = new_size / kGranule;
	if (file_size % kGranule != 0 && beyond >= old_whole) {
		first = std::min(first, old_whole > 0 ? old_whole - 1 : 0);
		beyond = std::max(beyond, old_whole + 1);
	}
	if (new_size % kGranule != 0 && beyond > new_whole && new_whole > 0)
		first = std::min(first, new_whole - 1);
	const std::uint64_t from = first * kGranule, to = std::min(beyond * kGranule, new_size);

	// In work_ the first unit that is touched stands at the beginning; what lies before `from` in it is never written.
	const std::uint64_t base = unit_begin(from);
	if (!read_old(file, work_ + (from - base), at - from, from) ||
	    !read_old(file, work_ + (end - base), end < to ? to - end : 0, end))
		return false;
	for (std::uint64_t unit = base; unit < to; unit += kUnit) {
		std::uint8_t* const place = work_ + (unit - base);
		const std::uint64_t given = std::max(at, unit), given_end = std::min(end, unit + kUnit);
		if (in && given == unit && given_end == unit + kUnit) {
			if (!cipher_.seal_unit(file.id, unit_of(unit), in + (unit - at), place, kUnit))
				return fail(EIO);
			continue;
		}
		if (given < given_end && in)
			std::memcpy(work_ + (given - base), in + (given - at), given_end - given);
		else if (given < given_end)
			std::memset(work_ + (given - base), 0, given_end - given);
		if (!seal_tail(file.id, unit_of(unit), place, std::min(to - unit, kUnit)))
			return false;
	}
	for (std::uint64_t done = from; done < to;) {
		const ssize_t put = raw_.write(file.fd, work_ + (done - base), to - done, static_cast<off_t>(done));
		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return put < 0 ? false : fail(ENOSPC);
		done += static_cast<std::uint64_t>(put);
	}
	return true;
}

// Writes [from, to) in parts; `in` null: zeroes. The file has `from` bytes or more.
bool TempFileIo::write_parts(const TempFile& file, const std::uint8_t* in, std::uint64_t from, std::uint64_t to,
                             std::uint64_t file_size) noexcept
{
	bool good = true;
	for (std::uint64_t at = from; good && at < to;) {
		const std::uint64_t part = std::min(to, unit_begin(at) + kPartSize) - at;
		good = write_part(file, in ? in + (at - from) : nullptr, part, at, file_size);
		at += part;
		file_size = std::max(file_size, at);
		if (good)
			changed_to(file.id, file_size); // also what this process keeps: the next part reads old bytes through it
		else
			changed(file.id);
	}
	return good;
}

ssize_t TempFileIo::pwrite(const TempFile& file, const void* buffer, std::size_t size, off_t offset) noexcept
{
	if (offset < 0 || static_cast<std::uint64_t>(offset) + size > kMaxSize)
		return minus_one(EFBIG);
	if (size == 0)
		return 0;
	const std::uint64_t from = static_cast<std::uint64_t>(offset);
	std::uint64_t file_size;
	if (!size_of(file, &file_size))
		return -1;
	if (from > file_size) {
		if (!write_parts(file, nullptr, file_size, from, file_size))
			return -1;
		file_size = from;
	}
	return write_parts(file, static_cast<const std::uint8_t*>(buffer), from, from + size, file_size)
	           ? static_cast<ssize_t>(size)
	           : -1;
}

int TempFileIo::ftruncate(const TempFile& file, off_t size) noexcept
{
	if (size < 0 || static_cast<std::uint64_t>(size) > kMaxSize)
		return minus_one(EINVAL);
	std::uint64_t old_size;
	if (!size_of(file, &old_size))
		return -1;
	const std::uint64_t new_size = static_cast<std::uint64_t>(size);
	if (new_size > old_size)
		return write_parts(file, nullptr, old_size, new_size, old_size) ? 0 : -1;

	// The end is formed anew where the new one is within a granule, and where only a stealing end goes: cut before
	// its granules and append them again.
	const std::uint64_t whole = new_size / kGranule;
	const bool new_end = new_size % kGranule != 0;
	const bool end_goes = !new_end && whole > 0 && whole == old_size / kGranule && new_size != old_size;
	std::uint64_t from = new_size;
	if (new_size != old_size && (new_end || end_goes))
		from = whole > 0 ? (whole - 1) * kGranule : 0;
	std::uint8_t kept[2 * kGranule];
	if (!read_old(file, kept, new_size - from, from))
		return -1;
	const int result = raw_.truncate(file.fd, static_cast<off_t>(from));
	changed(file.id);
	if (result != 0 || from == new_size)
		return result;
	return write_parts(file, kept, from, new_size, from) ? 0 : -1;
}

} // namespace seal
