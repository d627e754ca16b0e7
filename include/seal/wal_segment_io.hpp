// Reading and writing byte ranges of WAL segments whose pages are sealed: the file layer that the server and the preload library share.
//
// Reading goes by each page's own mark; a page without one, or whose address is not the one that file and offset imply (a recycled
// segment), is given back as it lies (but without the mark). A sealed page with the right address and an unknown generation is a failure, never a quiet end of WAL.
//
// Writing takes any byte range: whole pages are sealed as they are, parts of pages by read-modify-write (the page that was written last is
// kept, so that it is not read back). A page is sealed once its header is complete; until then its bytes lie in clear, which header bytes do
// anyway. Which generation a segment gets is decided once, when its first page is written (in a sealed segment that page is sealed also if it holds
// nothing): the page on disk decides if it belongs to this segment already, else WalKeys::newest(). A sealed segment that takes over a file of WAL in clear first overwrites all of it with zeroes.
//
// Nothing here allocates, raises or blocks: allowed in a critical section. One WalSegmentIo belongs to one process.
#pragma once

#include "seal/wal_cipher.hpp"

#include <sys/types.h>

namespace seal {

inline constexpr std::uint64_t kWalStartUnknown = ~std::uint64_t{0};
inline constexpr std::uint32_t kWalPlain = 0; // "generation" of WAL in clear

// An open segment. The owner keeps it as long as the descriptor is open.
struct WalFile {
	int fd = -1;
	std::uint64_t start = kWalStartUnknown; // address of its first byte; unknown: xlogtemp.N and the like: a page's own address decides
	std::uint32_t segment_size = 0;         // bytes; 0: not known (the long header tells)
	std::uint32_t generation = kWalPlain;   // of pages written to it, once decided
	bool decided = false;
};

class WalKeys {
public:
	// The cipher of a mark (a generation modulo kWalGenerations); *generation the whole number. Null: not known.
	virtual WalCipher* by_mark(std::uint16_t mark, std::uint32_t* generation) noexcept = 0;
	// What a segment that is begun now gets; kWalPlain: clear.
	virtual std::uint32_t newest() noexcept = 0;

protected:
	~WalKeys() = default;
};

// The descriptors' real functions (pread(2), pwrite(2)); address: where in WAL the first byte lies, or kWalStartUnknown.
class WalRawIo {
public:
	virtual ssize_t read(int fd, void* buffer, std::size_t size, off_t offset, std::uint64_t address) noexcept = 0;
	// Pages may have been written before (with less in them): readers may be at them.
	virtual ssize_t write(int fd, const void* buffer, std::size_t size, off_t offset, std::uint64_t address) noexcept = 0;

protected:
	~WalRawIo() = default;
};

enum class WalProblem {
	none,
	unknown_key, // problem_mark(), problem_address() say which
	cipher,      // the cryptographic library refused
	not_wal,     // to be sealed, but no WAL page of this place: never written in clear
};

class WalSegmentIo {
public:
	WalSegmentIo(WalKeys& keys, WalRawIo& raw) noexcept : keys_(keys), raw_(raw) {}

	// As pread(2) and pwrite(2): bytes done, or -1 and errno. With problem() != none: -1 and EIO.
	ssize_t pread(WalFile& file, void* buffer, std::size_t size, off_t offset) noexcept;
	ssize_t pwrite(WalFile& file, const void* buffer, std::size_t size, off_t offset) noexcept;
	void forget_tail() noexcept; // the file was closed, renamed or truncated: keep nothing of it

	WalProblem problem() const noexcept { return problem_; } // of the last call
	std::uint16_t problem_mark() const noexcept { return problem_mark_; }
	std::uint64_t problem_address() const noexcept { return problem_address_; }

	static constexpr std::size_t kChunkPages = 16;

private:
	enum class PageForm { foreign, plain, sealed };
	PageForm form_of(const WalFile& file, const std::uint8_t* page, off_t page_offset) const noexcept;
	bool means_nothing(const WalFile& file, const std::uint8_t* page, off_t page_offset) const noexcept;
	bool fail(WalProblem problem, const std::uint8_t* page) noexcept;
	bool open_page(const WalFile& file, std::uint8_t* page, off_t page_offset) noexcept;
	bool decide(WalFile& file, off_t page_offset) noexcept;
	bool wipe_segment(const WalFile& file) noexcept;
	bool seal_page(WalFile& file, const std::uint8_t* plain, std::uint8_t* out, off_t page_offset, std::uint32_t generation) noexcept;
	ssize_t read_whole(WalFile& file, std::uint8_t* into, std::size_t size, off_t offset) noexcept;
	ssize_t write_whole(WalFile& file, const std::uint8_t* from, std::size_t pages, off_t offset) noexcept;
	bool write_part(WalFile& file, const std::uint8_t* from, std::size_t size, off_t offset) noexcept;
	bool load_tail(WalFile& file, off_t page_offset, std::size_t before) noexcept;
	ssize_t write_all(const WalFile& file, const std::uint8_t* from, std::size_t size, off_t offset) noexcept;

	WalKeys& keys_;
	WalRawIo& raw_;
	WalProblem problem_ = WalProblem::none;
	std::uint16_t problem_mark_ = 0;
	std::uint64_t problem_address_ = 0;

	// The page that was written in part last, in clear, and where it lies.
	const WalFile* tail_file_ = nullptr;
	off_t tail_offset_ = -1;
	bool tail_plain_ = false; // it lies on disk in clear, with contents: it stays so
	std::uint32_t tail_generation_ = kWalPlain; // it lies on disk sealed with this: so it stays, whatever the segment has

	alignas(4096) std::uint8_t tail_[kWalPageSize];
	alignas(4096) std::uint8_t page_[kWalPageSize];                  // a copy that nobody else changes meanwhile
	alignas(4096) std::uint8_t scratch_[kChunkPages * kWalPageSize]; // aligned for O_DIRECT
};

} // namespace seal
