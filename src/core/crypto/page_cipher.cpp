#include "seal/page_cipher.hpp"

#include "xts.hpp"

#include "seal/crypto.hpp"
#include "seal/secret.hpp"

#include <cstring>
#include <utility>

namespace seal {

namespace {

constexpr char kPageKeyLabel[] = "pg_seal page key v1"; // on disk in effect: it decides every key
constexpr std::size_t kLabelSize = sizeof kPageKeyLabel - 1;

enum class PageUnit : std::uint8_t { head = 0, body = 1 };
constexpr std::size_t kTweakForkByte = 4;
constexpr std::size_t kTweakUnitByte = 5;

void make_tweak(std::uint8_t tweak[kTweakSize], std::uint32_t block, ForkClass fork) noexcept
{
	std::memset(tweak, 0, kTweakSize);
	for (std::size_t i = 0; i < 4; i++)
		tweak[i] = static_cast<std::uint8_t>(block >> (8 * i));
	tweak[kTweakForkByte] = static_cast<std::uint8_t>(fork);
	tweak[kTweakUnitByte] = static_cast<std::uint8_t>(PageUnit::head);
}

std::uint16_t load_flags(const std::uint8_t* page) noexcept
{
	std::uint16_t flags;
	std::memcpy(&flags, page + kPageFlagsOffset, sizeof flags);
	return flags;
}

void store_flags(std::uint8_t* page, std::uint16_t flags) noexcept
{
	std::memcpy(page + kPageFlagsOffset, &flags, sizeof flags);
}

} // namespace

PageCipher::PageCipher(PageCipher&& other) noexcept { take(other); }

PageCipher& PageCipher::operator=(PageCipher&& other) noexcept
{
	if (this != &other) {
		release();
		take(other);
	}
	return *this;
}

PageCipher::~PageCipher() { release(); }

void PageCipher::take(PageCipher& other) noexcept
{
	method_ = std::exchange(other.method_, nullptr);
	encrypt_ = std::exchange(other.encrypt_, nullptr);
	decrypt_ = std::exchange(other.decrypt_, nullptr);
	cipher_ = std::exchange(other.cipher_, CipherId::none);
	std::memcpy(key_, other.key_, sizeof key_);
	wipe(other.key_, sizeof other.key_);
}

void PageCipher::release() noexcept
{
	if (encrypt_ != nullptr)
		method_->free_context(encrypt_);
	if (decrypt_ != nullptr)
		method_->free_context(decrypt_);
	method_ = nullptr;
	encrypt_ = nullptr;
	decrypt_ = nullptr;
	cipher_ = CipherId::none;
	wipe(key_, sizeof key_);
}

bool PageCipher::init(CipherId cipher, const std::uint8_t seed[kDekSeedSize]) noexcept
{
	release();
	const XtsMethod* const method = xts_method(cipher);
	if (method == nullptr)
		return false;
	std::uint8_t info[kLabelSize + 1];
	std::memcpy(info, kPageKeyLabel, kLabelSize);
	info[kLabelSize] = static_cast<std::uint8_t>(cipher);
	const std::size_t half = method->key_size / 2;
	// OpenSSL refuses equal halves as well (IEEE 1619; FIPS 140-3 IG C.I), but only when a context is made.
	if (!hkdf_expand({seed, kDekSeedSize}, info, {key_, method->key_size}) ||
	    equal_constant_time({key_, half}, {key_ + half, half})) {
		release();
		return false;
	}
	method_ = method;
	cipher_ = cipher;
	return true;
}

bool PageCipher::make_context(void** context) noexcept
{
	if (!ready())
		return false;
	*context = xts_new(*method_, context == &encrypt_, key_);
	if (encrypt_ != nullptr && decrypt_ != nullptr)
		wipe(key_, sizeof key_);
	return *context != nullptr;
}

bool PageCipher::seal(const std::uint8_t* plain, std::uint8_t* sealed, std::uint32_t block, ForkClass fork,
                      std::uint8_t generation) noexcept
{
	if (encrypt_ == nullptr && !make_context(&encrypt_))
		return false;
	std::uint8_t tweak[kTweakSize];
	make_tweak(tweak, block, fork);
	std::memcpy(sealed, plain, kPageHeaderSize);
	store_flags(sealed, flags_seal(load_flags(plain), {cipher_, generation}));
	if (!xts_encrypt(*method_, encrypt_, tweak, plain + kHeadOffset, sealed + kHeadOffset, kHeadSize))
		return false;
	tweak[kTweakUnitByte] = static_cast<std::uint8_t>(PageUnit::body);
	return xts_encrypt(*method_, encrypt_, tweak, plain + kBodyOffset, sealed + kBodyOffset, kBodySize);
}

bool PageCipher::open(std::uint8_t* page, std::uint32_t block, ForkClass fork) noexcept
{
	if (decrypt_ == nullptr && !make_context(&decrypt_))
		return false;
	std::uint8_t tweak[kTweakSize];
	make_tweak(tweak, block, fork);
	std::uint8_t* const head = page + kHeadOffset;
	std::uint8_t* const body = page + kBodyOffset;
	const std::uint16_t unwritten = unwritten_sectors(page);
	if (!xts_decrypt(*method_, decrypt_, tweak, head, head, kHeadSize))
		return false;
	tweak[kTweakUnitByte] = static_cast<std::uint8_t>(PageUnit::body);
	if (!xts_decrypt(*method_, decrypt_, tweak, body, body, kBodySize))
		return false;
	for (unsigned sector = 1; unwritten >> sector != 0; sector++)
		if (unwritten >> sector & 1)
			std::memset(page + sector * kSectorSize, 0, kSectorSize);
	store_flags(page, flags_unseal(load_flags(page)));
	return true;
}

std::uint16_t unwritten_sectors(const std::uint8_t* page) noexcept
{
	static_assert(kPageSize / kSectorSize == 16);
	static constexpr std::uint8_t kZeroes[kSectorSize] = {};
	unsigned found = 0;
	for (unsigned sector = 1; sector < kPageSize / kSectorSize; sector++) {
		const std::uint8_t* const at = page + sector * kSectorSize;
		std::uint64_t first;
		std::memcpy(&first, at, sizeof first);
		if (first == 0 && std::memcmp(at, kZeroes, kSectorSize) == 0)
			found |= 1u << sector;
	}
	return static_cast<std::uint16_t>(found);
}

} // namespace seal
