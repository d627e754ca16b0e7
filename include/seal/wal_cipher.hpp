// WalCipher: cipher contexts that seal and open WAL pages under one generation of the WAL key.
//
// Source: IEEE 1619-2018 / NIST SP 800-38E (XTS-AES). The tweak of a data unit is 16 bytes, all from the page's own header:
//   0-7 page address (little endian), 8-11 timeline, 12 unit (0 head, 1 body), 13-15 zero.
// A (key, tweak) pair names one place of one timeline. It is written more than once (the page fills; WAL after a crash is overwritten), which is
// why the mode is XTS and no keystream: what a reader of two snapshots learns is which 16-byte blocks are equal.
//
// Contract: make() allocates the contexts (before a fork, outside any critical section); set_key(), seal() and open() never allocate, raise or
// block: allowed in a critical section. A copy that a fork inherits is a process's own. No <string> here.
#pragma once

#include "seal/page_cipher.hpp"
#include "seal/wal_format.hpp"

namespace seal {

inline constexpr std::size_t kWalKeySize = 64; // an expanded XTS key; AES-128 uses the first 32 bytes

// HKDF-Expand-SHA-256 of the seed, label "pg_seal wal key v1" || cipher id. Allocates. False: the library refused.
[[nodiscard]] bool wal_key_expand(CipherId cipher, const std::uint8_t seed[kDekSeedSize], std::uint8_t key[kWalKeySize]) noexcept;

class WalCipher {
public:
	WalCipher() noexcept = default;
	WalCipher(const WalCipher&) = delete;
	WalCipher& operator=(const WalCipher&) = delete;
	~WalCipher();

	[[nodiscard]] bool make(CipherId cipher) noexcept;
	bool made() const noexcept { return method_ != nullptr; }
	[[nodiscard]] bool set_key(const std::uint8_t key[kWalKeySize]) noexcept;

	// The header is copied as it is, with marker and generation added. Not in place. The page's header must be whole.
	[[nodiscard]] bool seal(const std::uint8_t* plain, std::uint8_t* sealed, std::uint32_t generation) noexcept;
	// In place; marker and generation are cleared, so that the page is what PostgreSQL wrote.
	[[nodiscard]] bool open(std::uint8_t* page) noexcept;

private:
	const XtsMethod* method_ = nullptr;
	void* encrypt_ = nullptr;
	void* decrypt_ = nullptr;
};

} // namespace seal
