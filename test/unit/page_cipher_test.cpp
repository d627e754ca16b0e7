#include "sample_page.hpp"

#include "seal/crypto.hpp"
#include "seal/page_cipher.hpp"

#include <gtest/gtest.h>

#include <openssl/evp.h>

#include <algorithm>
#include <memory>
#include <string_view>
#include <vector>

namespace seal {
namespace {

using test::get_u16;
using test::Page;
using test::sample_page;
using test::sample_seed;
using test::Seed;

constexpr CipherId kCiphers[] = {CipherId::aes_256_xts, CipherId::aes_128_xts};

std::vector<std::uint8_t> page_key(CipherId cipher, const Seed& seed)
{
	std::vector<std::uint8_t> info;
	for (const char c : std::string_view("pg_seal page key v1"))
		info.push_back(static_cast<std::uint8_t>(c));
	info.push_back(static_cast<std::uint8_t>(cipher));
	std::vector<std::uint8_t> key(cipher == CipherId::aes_256_xts ? 64 : 32);
	EXPECT_TRUE(hkdf_expand(seed, info, key));
	return key;
}

// XTS by the letter of the standard, one block cipher call at a time: a second opinion on the head unit, whose 24 bytes
// need ciphertext stealing, and on the tweak's layout.
class ByTheBook {
public:
	ByTheBook(CipherId cipher, const Seed& seed)
	{
		const std::vector<std::uint8_t> key = page_key(cipher, seed);
		const EVP_CIPHER* const ecb = key.size() == 64 ? EVP_aes_256_ecb() : EVP_aes_128_ecb();
		data_.reset(EVP_CIPHER_CTX_new());
		tweak_.reset(EVP_CIPHER_CTX_new());
		EXPECT_EQ(EVP_EncryptInit_ex2(data_.get(), ecb, key.data(), nullptr, nullptr), 1);
		EXPECT_EQ(EVP_EncryptInit_ex2(tweak_.get(), ecb, key.data() + key.size() / 2, nullptr, nullptr), 1);
	}

	std::vector<std::uint8_t> encrypt(std::uint32_t block, std::uint8_t fork, std::uint8_t unit, const std::uint8_t* in,
	                                  std::size_t size)
	{
		Block t{static_cast<std::uint8_t>(block),
		        static_cast<std::uint8_t>(block >> 8),
		        static_cast<std::uint8_t>(block >> 16),
		        static_cast<std::uint8_t>(block >> 24),
		        fork,
		        unit};
		t = cipher(tweak_.get(), t);
		std::vector<std::uint8_t> out(in, in + size);
		std::size_t at = 0;
		for (; at + 16 <= size; at += 16, t = doubled(t))
			crypt_block(&out[at], t);
		if (at < size) { // the last whole ciphertext block lends its tail to the short one
			const std::size_t rest = size - at;
			Block last;
			std::copy_n(&out[at - 16], 16, last.begin());
			std::copy_n(in + at, rest, &out[at - 16]);
			std::copy_n(&last[0], rest, &out[at]);
			std::copy_n(&last[rest], 16 - rest, &out[at - 16 + rest]);
			crypt_block(&out[at - 16], t);
		}
		return out;
	}

private:
	using Block = std::array<std::uint8_t, 16>;
	struct Free {
		void operator()(EVP_CIPHER_CTX* c) const { EVP_CIPHER_CTX_free(c); }
	};
	static Block cipher(EVP_CIPHER_CTX* ctx, const Block& in)
	{
		std::uint8_t out[32];
		int n = 0;
		EXPECT_EQ(EVP_EncryptUpdate(ctx, out, &n, in.data(), 16), 1);
		EXPECT_EQ(n, 16);
		Block result;
		std::copy_n(out, 16, result.begin());
		return result;
	}
	static Block doubled(const Block& t)
	{
		Block d;
		unsigned carry = 0;
		for (std::size_t i = 0; i < 16; i++) {
			const unsigned v = t[i] * 2u + carry;
			d[i] = static_cast<std::uint8_t>(v);
			carry = v >> 8;
		}
		if (carry != 0)
			d[0] ^= 0x87;
		return d;
	}
	void crypt_block(std::uint8_t* at, const Block& t)
	{
		Block b;
		for (std::size_t i = 0; i < 16; i++)
			b[i] = at[i] ^ t[i];
		b = cipher(data_.get(), b);
		for (std::size_t i = 0; i < 16; i++)
			at[i] = b[i] ^ t[i];
	}
	std::unique_ptr<EVP_CIPHER_CTX, Free> data_, tweak_;
};

Page sealed_page(CipherId cipher, const Seed& seed, const Page& plain, std::uint32_t block, ForkClass fork,
                 std::uint8_t generation)
{
	PageCipher c;
	EXPECT_TRUE(c.init(cipher, seed.data()));
	Page out;
	EXPECT_TRUE(c.seal(plain.data(), out.data(), block, fork, generation));
	return out;
}

TEST(PageCipher, SealedPageOpensForEveryCipherGenerationForkAndPlainFlags)
{
	for (const CipherId cipher : kCiphers) {
		PageCipher c;
		ASSERT_TRUE(c.init(cipher, sample_seed(1).data()));
		for (unsigned generation = 0; generation < 256; generation++) {
			const auto flags = static_cast<std::uint16_t>(generation & kFlagsPlainMask);
			const auto fork = static_cast<ForkClass>(generation % 3);
			const Page plain = sample_page(generation, flags);
			Page sealed;
			ASSERT_TRUE(
				c.seal(plain.data(), sealed.data(), 1000 + generation, fork, static_cast<std::uint8_t>(generation)));
			const std::uint16_t on_disk = get_u16(sealed.data(), kPageFlagsOffset);
			EXPECT_TRUE(flags_sealed(on_disk));
			EXPECT_EQ(flags_mark(on_disk).cipher, cipher);
			EXPECT_EQ(flags_mark(on_disk).generation, generation);
			EXPECT_EQ(flags_unseal(on_disk), flags);
			EXPECT_NE(on_disk & ~kFlagsPlainMask, 0) << "a stock server must reject it";
			ASSERT_TRUE(c.open(sealed.data(), 1000 + generation, fork));
			EXPECT_EQ(sealed, plain);
		}
	}
}

TEST(PageFormat, FlagsCarryEveryCipherIdAndGeneration)
{
	for (unsigned cipher = 0; cipher < 16; cipher++)
		for (unsigned generation = 0; generation < 256; generation++)
			for (std::uint16_t plain = 0; plain <= kFlagsPlainMask; plain++) {
				const PageMark mark{static_cast<CipherId>(cipher), static_cast<std::uint8_t>(generation)};
				const std::uint16_t flags = flags_seal(plain, mark);
				EXPECT_TRUE(flags_sealed(flags));
				EXPECT_EQ(flags_mark(flags).cipher, mark.cipher);
				EXPECT_EQ(flags_mark(flags).generation, mark.generation);
				EXPECT_EQ(flags_unseal(flags), plain);
			}
	EXPECT_FALSE(flags_sealed(kFlagsPlainMask));
}

TEST(PageCipher, HeaderStaysInClearButForTheFlags)
{
	const Page plain = sample_page(5, 4);
	const Page sealed = sealed_page(CipherId::aes_256_xts, sample_seed(2), plain, 7, ForkClass::main, 9);
	for (std::size_t i = 0; i < kPageHeaderSize; i++) {
		if (i != kPageFlagsOffset && i != kPageFlagsOffset + 1) {
			EXPECT_EQ(sealed[i], plain[i]) << i;
		}
	}
}

TEST(PageCipher, EveryUnitIsXtsByTheStandard)
{
	for (const CipherId cipher : kCiphers)
		for (const std::uint32_t block : {0u, 1u, 0x01020304u, 0xFFFFFFFEu})
			for (const ForkClass fork : {ForkClass::main, ForkClass::fsm, ForkClass::vm}) {
				const Page plain = sample_page(block + 11);
				const Page sealed = sealed_page(cipher, sample_seed(3), plain, block, fork, 77);
				ByTheBook book(cipher, sample_seed(3));
				const auto head =
					book.encrypt(block, static_cast<std::uint8_t>(fork), 0, &plain[kHeadOffset], kHeadSize);
				const auto body =
					book.encrypt(block, static_cast<std::uint8_t>(fork), 1, &plain[kBodyOffset], kBodySize);
				EXPECT_TRUE(std::equal(head.begin(), head.end(), &sealed[kHeadOffset]));
				EXPECT_TRUE(std::equal(body.begin(), body.end(), &sealed[kBodyOffset]));
			}
}

// Bytes that come back right by chance: 1 in 256 are expected.
std::size_t equal_bytes(const Page& a, const Page& b)
{
	std::size_t n = 0;
	for (std::size_t i = kPageHeaderSize; i < kPageSize; i++)
		n += a[i] == b[i];
	return n;
}

TEST(PageCipher, WrongKeyBlockForkOrCipherGivesGarbage)
{
	const Page plain = sample_page(21);
	const Page sealed = sealed_page(CipherId::aes_256_xts, sample_seed(4), plain, 100, ForkClass::main, 1);
	const auto opened = [&](CipherId cipher, const Seed& seed, std::uint32_t block, ForkClass fork) {
		PageCipher c;
		EXPECT_TRUE(c.init(cipher, seed.data()));
		Page page = sealed;
		EXPECT_TRUE(c.open(page.data(), block, fork));
		return equal_bytes(page, plain);
	};
	Seed near = sample_seed(4);
	near[31] ^= 1;
	EXPECT_EQ(opened(CipherId::aes_256_xts, sample_seed(4), 100, ForkClass::main), kPageSize - kPageHeaderSize);
	EXPECT_LT(opened(CipherId::aes_256_xts, near, 100, ForkClass::main), 100u);
	EXPECT_LT(opened(CipherId::aes_256_xts, sample_seed(4), 101, ForkClass::main), 100u);
	EXPECT_LT(opened(CipherId::aes_256_xts, sample_seed(4), 100 + (1u << 24), ForkClass::main), 100u);
	EXPECT_LT(opened(CipherId::aes_256_xts, sample_seed(4), 100, ForkClass::vm), 100u);
	EXPECT_LT(opened(CipherId::aes_128_xts, sample_seed(4), 100, ForkClass::main), 100u);
}

TEST(PageCipher, HeadAndBodyOfEqualContentDiffer)
{
	Page plain = sample_page(1);
	std::fill(plain.begin() + kPageHeaderSize, plain.end(), std::uint8_t{0});
	const Page sealed = sealed_page(CipherId::aes_256_xts, sample_seed(6), plain, 0, ForkClass::main, 0);
	EXPECT_FALSE(std::equal(&sealed[kHeadOffset], &sealed[kHeadOffset + 16], &sealed[kBodyOffset]));
	EXPECT_NE(std::count(sealed.begin() + kPageHeaderSize, sealed.end(), std::uint8_t{0}), 8168);
	EXPECT_LT(std::count(sealed.begin() + kPageHeaderSize, sealed.end(), std::uint8_t{0}), 100);
}

TEST(PageCipher,
     GenerationDoesNotEnterTheTweak) // it names the key; the same key under another number is a caller's error
{
	const Page plain = sample_page(8);
	Page a = sealed_page(CipherId::aes_256_xts, sample_seed(7), plain, 3, ForkClass::fsm, 1);
	Page b = sealed_page(CipherId::aes_256_xts, sample_seed(7), plain, 3, ForkClass::fsm, 2);
	EXPECT_NE(a, b);
	test::put_u16(a.data(), kPageFlagsOffset, 0);
	test::put_u16(b.data(), kPageFlagsOffset, 0);
	EXPECT_EQ(a, b);
}

TEST(PageCipher, RefusesUnknownCiphersAndIsNotReadyBeforeInit)
{
	PageCipher c;
	Page page = sample_page(1);
	Page out;
	EXPECT_FALSE(c.ready());
	EXPECT_FALSE(c.seal(page.data(), out.data(), 0, ForkClass::main, 0));
	EXPECT_FALSE(c.open(page.data(), 0, ForkClass::main));
	EXPECT_FALSE(c.init(CipherId::none, sample_seed(1).data()));
	EXPECT_FALSE(c.init(static_cast<CipherId>(15), sample_seed(1).data()));
	EXPECT_FALSE(c.ready());
}

TEST(PageCipher, EachDirectionServesWithoutTheOtherAndInAnyOrder)
{
	const Page plain = sample_page(31);
	const Page expected = sealed_page(CipherId::aes_256_xts, sample_seed(2), plain, 5, ForkClass::main, 3);
	PageCipher reader, writer;
	ASSERT_TRUE(reader.init(CipherId::aes_256_xts, sample_seed(2).data()));
	ASSERT_TRUE(writer.init(CipherId::aes_256_xts, sample_seed(2).data()));
	Page page = expected;
	ASSERT_TRUE(reader.open(page.data(), 5, ForkClass::main));
	EXPECT_EQ(page, plain);
	PageCipher moved(std::move(reader)); // with one direction made
	Page sealed;
	ASSERT_TRUE(moved.seal(plain.data(), sealed.data(), 5, ForkClass::main, 3));
	EXPECT_EQ(sealed, expected);
	ASSERT_TRUE(writer.seal(plain.data(), sealed.data(), 5, ForkClass::main, 3));
	EXPECT_EQ(sealed, expected);
	for (PageCipher* c : {&moved, &writer}) {
		page = expected;
		ASSERT_TRUE(c->open(page.data(), 5, ForkClass::main));
		EXPECT_EQ(page, plain);
	}
}

TEST(PageCipher, MovesAndReinitialises)
{
	const Page plain = sample_page(30);
	PageCipher a;
	ASSERT_TRUE(a.init(CipherId::aes_256_xts, sample_seed(1).data()));
	PageCipher b(std::move(a));
	EXPECT_FALSE(a.ready());
	EXPECT_TRUE(b.ready());
	a = std::move(b);
	EXPECT_EQ(a.cipher(), CipherId::aes_256_xts);
	ASSERT_TRUE(a.init(CipherId::aes_128_xts, sample_seed(9).data()));
	Page sealed;
	ASSERT_TRUE(a.seal(plain.data(), sealed.data(), 1, ForkClass::main, 0));
	EXPECT_EQ(sealed, sealed_page(CipherId::aes_128_xts, sample_seed(9), plain, 1, ForkClass::main, 0));
}

} // namespace
} // namespace seal
