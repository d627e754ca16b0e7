// ParcelKeys: the WAL keys of this process, taken from the memory file that `pgseal exec` left open.
//
// The copy lies in pages of its own that are locked, never dumped, and wiped when the process ends; the process itself can neither be dumped nor
// traced. Cipher contexts are made when a key is first needed: a tool has no critical sections.
#pragma once

#include "seal/wal_parcel.hpp"
#include "seal/wal_segment_io.hpp"

namespace seal::preload {

bool forbid_dumps() noexcept; // of this process; nor can it be traced

class ParcelKeys final : public WalKeys {
public:
	constexpr ParcelKeys() noexcept = default;

	// Null, or what is wrong.
	[[nodiscard]] const char* take(int fd) noexcept;
	bool taken() const noexcept { return taken_; }
	const char* data_directory() const noexcept;
	std::uint64_t system_identifier() const noexcept; // 0: of any cluster
	void wipe() noexcept;
	void lock() noexcept; // in memory, what is in use; warns

	WalCipher* by_mark(std::uint16_t mark, std::uint32_t* generation) noexcept override;
	std::uint32_t newest() noexcept override;

private:
	WalCipher* ciphers_[kWalGenerations] = {}; // by mark
	std::size_t used_ = 0;                     // bytes, whole pages
	bool taken_ = false;
};

} // namespace seal::preload
