// PageCipher: ready cipher contexts that seal and open 8 KiB relation pages under one DEK generation.
//
// Source: IEEE 1619-2018 / NIST SP 800-38E (XTS-AES). The tweak of a data unit is 16 bytes:
//   0-3 block number (little endian), 4 fork class, 5 unit (0 head, 1 body), 6-15 zero.
// Two units of one relation never share a tweak, and a DEK belongs to one relation, so a (key, tweak) pair names one
// place on disk. No <string> here: src/pg/storage includes this header.
//
// Contract: a context is made by the first seal() and by the first open() after init(), each its own (some 800 bytes of
// OpenSSL's heap: most relations are only read by most processes); later ones never allocate. None raises or blocks; all are
// allowed in a critical section. A PageCipher belongs to one process: never use it across a fork.
#pragma once

#include "seal/page_format.hpp"

#include <cstdint>

namespace seal {

struct XtsMethod; // src/core/crypto/xts.hpp

inline constexpr std::size_t kDekSeedSize = 32; // a DEK at rest: a 32-byte seed, wrapped; expanded by init()
inline constexpr std::size_t kKeyCheckSize = 8;

class PageCipher {
public:
	PageCipher() noexcept = default;
	PageCipher(PageCipher&& other) noexcept;
	PageCipher& operator=(PageCipher&& other) noexcept;
	PageCipher(const PageCipher&) = delete;
	PageCipher& operator=(const PageCipher&) = delete;
	~PageCipher(); // wipes key and contexts

	// Expands the seed (HKDF-Expand-SHA-256, label "pg_seal page key v1" || cipher id). False: the library refused (unknown
	// cipher, halves of the XTS key equal).
	[[nodiscard]] bool init(CipherId cipher, const std::uint8_t seed[kDekSeedSize]) noexcept;
	bool ready() const noexcept { return method_ != nullptr; }
	CipherId cipher() const noexcept { return cipher_; }

	// Copies the header and encrypts head and body from `plain` to `sealed` (both kPageSize, not overlapping). Sets
	// marker, cipher and generation in the flags of `sealed`; leaves its checksum field as in `plain`.
	[[nodiscard]] bool seal(const std::uint8_t* plain, std::uint8_t* sealed, std::uint32_t block, ForkClass fork,
	                        std::uint8_t generation) noexcept;
	// Decrypts in place and clears marker, cipher and generation; leaves the checksum field alone, and zero sectors zero
	// (unwritten_sectors()). The caller has checked that the page's mark names this cipher and generation.
	[[nodiscard]] bool open(std::uint8_t* page, std::uint32_t block, ForkClass fork) noexcept;

private:
	void release() noexcept;
	void take(PageCipher& other) noexcept;
	bool make_context(void** context) noexcept;

	const XtsMethod* method_ = nullptr;
	void* encrypt_ = nullptr; // the cryptographic provider's contexts: one per direction, so that an open() inside a
	void* decrypt_ = nullptr; // seal() (a completion during a write) disturbs nothing
	CipherId cipher_ = CipherId::none;
	std::uint8_t key_[64] = {}; // both halves; zero once both contexts are made
};

// PostgreSQL's data checksum (checksum_impl.h, FNV-1a variant) of an 8 KiB page as if its checksum field were zero:
// the same number that the server and pg_checksums compute. `block` counts from the start of the fork.
std::uint16_t page_checksum(const std::uint8_t* page, std::uint32_t block) noexcept;

bool page_is_zero(const std::uint8_t* page) noexcept;
// Bit n: sector n (of 512 bytes, 1 to 15) of a sealed page is all zero: its first write was torn before it got there.
std::uint16_t unwritten_sectors(const std::uint8_t* page) noexcept;

// Known-answer tests of everything the page path and the temporary files rely on (XTS both sizes, CTR, HKDF, HMAC, AES-GCM). False: do not start.
bool crypto_self_test() noexcept;

} // namespace seal
