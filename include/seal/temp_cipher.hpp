// TempCipher: the ciphers of files that live no longer than the server runs: temporary files, logical decoding's spill files, queue files of
// NOTIFY. All come from one seed that is drawn when the server starts and is never stored.
//
// Units (temporary and NOTIFY files). AES-256-XTS (IEEE 1619-2018, NIST SP 800-38E) in data units of 8 KiB, aligned to the file. The tweak:
//   0-11 file id, a keyed hash (HMAC-SHA-256, cut) of the file's path in the data directory; 12-15 number of the unit (little endian).
// A (key, tweak) pair so names one place of one path. It is written more than once: sorts rewrite their blocks, and a path comes
// again when a process id does. XTS bears that where a keystream would not: what a reader of two states of the disk learns is which 16-byte
// granules at one place of one path are equal. Two paths share tweaks only if 96 bits of their hashes agree.
//
// Streams (spill files). AES-256-CTR under a key of its own; the first counter block is a fresh random 128-bit nonce for each file, stored at its
// beginning. Bytes are only ever appended, so within a file no counter repeats; a file of 2^26 blocks meets the counters of one of n others
// with a probability of n * 2^27 / 2^128.
//
// Contract: make() and file_id() allocate on OpenSSL's heap; the others never allocate, raise or block. A copy that a fork inherits is a process's
// own. No <string> here.
#pragma once

#include <cstddef>
#include <cstdint>

namespace seal {

struct XtsMethod; // src/core/crypto/xts.hpp

inline constexpr std::size_t kTempSeedSize = 32;
inline constexpr std::size_t kTempUnitSize = 8192;
inline constexpr std::size_t kTempGranule = 16; // XTS's block: smaller changes rewrite one
inline constexpr std::size_t kTempFileIdSize = 12;
inline constexpr std::size_t kStreamNonceSize = 16;
inline constexpr std::uint32_t kTempPadUnit = 0xFFFFFFFF; // no unit of a file: the pad of files under 16 bytes
inline constexpr std::uint64_t kTempUnits = kTempPadUnit; // so many units a file may have

struct TempFileId {
	std::uint8_t bytes[kTempFileIdSize];
	bool operator==(const TempFileId&) const noexcept = default;
};

class TempCipher {
public:
	constexpr TempCipher() noexcept = default;
	TempCipher(const TempCipher&) = delete;
	TempCipher& operator=(const TempCipher&) = delete;
	~TempCipher();

	// Expands the seed (HKDF-Expand-SHA-256; labels "pg_seal temp unit v1", "pg_seal temp path v1", "pg_seal temp stream v1") and makes the
	// contexts, replacing those of an earlier seed. False: the library refused; nothing is made.
	[[nodiscard]] bool make(const std::uint8_t seed[kTempSeedSize]) noexcept;
	bool made() const noexcept { return method_ != nullptr; }

	[[nodiscard]] bool file_id(const char* path, std::size_t size, TempFileId& id) noexcept;

	// From the beginning of a unit; `size` 16 to 8192, in place or not overlapping. A size that is no multiple of 16 steals ciphertext.
	[[nodiscard]] bool seal_unit(const TempFileId& id, std::uint32_t unit, const std::uint8_t* plain,
	                             std::uint8_t* sealed, std::size_t size) noexcept;
	[[nodiscard]] bool open_unit(const TempFileId& id, std::uint32_t unit, const std::uint8_t* sealed,
	                             std::uint8_t* plain, std::size_t size) noexcept;

	// Both directions. `position` counts from the stream's first byte. In place or not overlapping.
	[[nodiscard]] bool stream(const std::uint8_t nonce[kStreamNonceSize], std::uint64_t position,
	                          const std::uint8_t* in, std::uint8_t* out, std::size_t size) noexcept;

private:
	void release() noexcept;

	const XtsMethod* method_ = nullptr;
	void* encrypt_ = nullptr; // the cryptographic provider's contexts, one per direction
	void* decrypt_ = nullptr;
	void* counter_ = nullptr; // EVP_CIPHER_CTX of the streams
	std::uint8_t path_key_[32] = {};
};

} // namespace seal
