// Reading and writing byte ranges of temporary files whose bytes are sealed: any offset, any size, and the file is as long on disk as its contents.
//
// Form of a file of S bytes. Granules of 16 bytes, counted from the file's beginning, are encrypted each at its place in an 8 KiB data unit
// (seal/temp_cipher.hpp). If S is no multiple of 16, the last r = S mod 16 bytes steal ciphertext from the granule before them, as XTS defines it, also
// where that granule lies in the unit before: CC = E(place of m-1, P[m-1]); the last r bytes on disk are the first r of CC; granule m-1 on disk is
// E(place of m, P[m] || last 16-r of CC). A file under 16 bytes is XORed with a pad that depends on path and length.
// So an append at any byte rewrites at most two granules before it, and only the last two granules of a file depend on its length.
// A hole (writing beyond the end) is filled with sealed zeroes.
//
// Several processes may have one file open by its path; one writes at a time, and nobody reads what is being written (the server's own rule
// for these files). What a process keeps (a few units in clear: the server reads 8 KiB at odd offsets for every row of a spilled tuplestore; sizes of files) is as fresh as
// the file: each change adds to a counter that all processes share, chosen by the path's hash, after the bytes are written; what is kept counts only while
// the counter is what it was before the file was read. A reader that may rely on the bytes being there (it was told so by the writer through a lock or a
// barrier) also sees the counter that came after them.
//
// Nothing here allocates, raises or blocks. One TempFileIo belongs to one process.
#pragma once

#include "seal/temp_cipher.hpp"

#include <atomic>
#include <sys/types.h>

namespace seal {

struct TempFile {
	int fd = -1;
	TempFileId id = {};
};

// The descriptors' real functions: pread(2), pwrite(2), ftruncate(2), and the size by fstat(2), or -1 and errno.
class TempRawIo {
public:
	virtual ssize_t read(int fd, void* buffer, std::size_t size, off_t offset) noexcept = 0;
	virtual ssize_t write(int fd, const void* buffer, std::size_t size, off_t offset) noexcept = 0;
	virtual int truncate(int fd, off_t size) noexcept = 0;
	virtual off_t size(int fd) noexcept = 0;

protected:
	~TempRawIo() = default;
};

inline constexpr std::size_t kTempChangeCounters = 4096;
using TempChanges = std::atomic<std::uint64_t>; // kTempChangeCounters of them, shared by all processes, zero at first

class TempFileIo {
public:
	constexpr TempFileIo(TempCipher& cipher, TempRawIo& raw) noexcept : cipher_(cipher), raw_(raw) {}
	void share(TempChanges* changes) noexcept { changes_ = changes; } // before anything else

	// As pread(2), pwrite(2), ftruncate(2). A write that fails half-way (no space) returns -1 and leaves the end of the file
	// undefined: the server gives such a file up.
	ssize_t pread(const TempFile& file, void* buffer, std::size_t size, off_t offset) noexcept;
	ssize_t pwrite(const TempFile& file, const void* buffer, std::size_t size, off_t offset) noexcept;
	int ftruncate(const TempFile& file, off_t size) noexcept;
	void changed(const TempFileId& id) noexcept; // the path has another file now, or none

	static constexpr std::size_t kKeptUnits = 16;

private:
	struct KeptUnit {
		TempFileId id = {};
		std::uint32_t unit = 0;
		std::uint64_t change = 0; // the counter before the unit was read
		std::size_t filled = 0;   // 0: nothing is kept here
	};
	struct KnownSize {
		TempFileId id = {};
		bool there = false;
		std::uint64_t change = 0; // the counter before the size was asked for
		std::uint64_t size = 0;
	};
	TempChanges& counter_of(const TempFileId& id) noexcept;
	KnownSize& known_size(const TempFileId& id) noexcept { return known_[id.bytes[5]]; }
	bool size_of(const TempFile& file, std::uint64_t* size) noexcept;
	void changed_to(const TempFileId& id, std::uint64_t size) noexcept;
	bool read_raw(int fd, std::uint8_t* buffer, std::size_t size, std::uint64_t offset) noexcept;
	ssize_t load(const TempFile& file, std::uint32_t unit, std::uint8_t* plain) noexcept;
	bool pad(const TempFileId& id, std::uint8_t* bytes, std::size_t size) noexcept;
	bool open_short(const TempFile& file, std::uint32_t unit, std::uint8_t* bytes, std::size_t size) noexcept;
	bool open_before_tail(const TempFile& file, std::uint32_t unit, std::uint8_t* last, std::size_t tail) noexcept;
	ssize_t keep(const TempFile& file, std::uint32_t unit, const std::uint8_t** plain) noexcept;
	bool read_old(const TempFile& file, std::uint8_t* plain, std::size_t size, std::uint64_t offset) noexcept;
	bool seal_tail(const TempFileId& id, std::uint32_t unit, std::uint8_t* last, std::size_t size) noexcept;
	bool write_part(const TempFile& file, const std::uint8_t* in, std::size_t size, std::uint64_t at,
	                std::uint64_t file_size) noexcept;
	bool write_parts(const TempFile& file, const std::uint8_t* in, std::uint64_t from, std::uint64_t to,
	                 std::uint64_t file_size) noexcept;

	static constexpr std::size_t kPartSize = 4 * kTempUnitSize; // written in one step, at most

	TempCipher& cipher_;
	TempRawIo& raw_;
	TempChanges* changes_ = nullptr;
	KeptUnit kept_[kKeptUnits];
	KnownSize known_[256];
	alignas(64) std::uint8_t kept_bytes_[kKeptUnits][kTempUnitSize] = {};
	alignas(64) std::uint8_t sealed_[kTempUnitSize + kTempGranule] = {}; // as read
	alignas(64) std::uint8_t work_[kPartSize + 2 * kTempUnitSize] = {};  // to be written
};

} // namespace seal
