// The ciphers of temporary and spill files against computations that share nothing with them but AES itself.
#include "temp_reference.hpp"

#include "seal/secret.hpp"

#include <gtest/gtest.h>

#include <cstring>

namespace seal {

namespace {

Bytes counting(std::size_t size, unsigned from)
{
	Bytes bytes(size);
	for (std::size_t i = 0; i < size; i++)
		bytes[i] = static_cast<std::uint8_t>(from + 7 * i + i / 251);
	return bytes;
}

} // namespace

TEST(temp_cipher, units_are_xts_with_the_documented_keys_and_tweaks)
{
	const TempReference reference(kTestSeed);
	TempCipher cipher;
	ASSERT_TRUE(cipher.make(kTestSeed));
	const char path[] = "base/pgsql_tmp/pgsql_tmp4711.0";
	TempFileId id;
	ASSERT_TRUE(cipher.file_id(path, sizeof path - 1, id));
	EXPECT_EQ(reference.file_id(path), id);
	for (const std::uint32_t unit : {0u, 1u, 255u, 256u, 0x12345678u, kTempPadUnit})
		for (const std::size_t size : {16u, 32u, 48u, 4096u, 8176u, 8192u}) {
			const Bytes plain = counting(size, unit);
			Bytes sealed(size), opened(size);
			ASSERT_TRUE(cipher.seal_unit(id, unit, plain.data(), sealed.data(), size));
			for (std::size_t at = 0; at < size; at += 16)
				ASSERT_EQ(reference.granule(id, unit, at / 16, {plain.data() + at, 16}),
				          Bytes(sealed.begin() + at, sealed.begin() + at + 16));
			ASSERT_TRUE(cipher.open_unit(id, unit, sealed.data(), opened.data(), size));
			EXPECT_EQ(plain, opened);
		}
}

TEST(temp_cipher, another_seed_path_or_unit_gives_other_bytes)
{
	std::uint8_t other_seed[kTempSeedSize];
	std::memcpy(other_seed, kTestSeed, sizeof other_seed);
	other_seed[31] ^= 1;
	TempCipher cipher, other;
	ASSERT_TRUE(cipher.make(kTestSeed) && other.make(other_seed));
	TempFileId a, b, c;
	ASSERT_TRUE(cipher.file_id("x/1", 3, a) && cipher.file_id("x/2", 3, b) && other.file_id("x/1", 3, c));
	EXPECT_FALSE(a == b);
	EXPECT_FALSE(a == c);
	const Bytes plain = counting(64, 3);
	Bytes first(64), next(64);
	ASSERT_TRUE(cipher.seal_unit(a, 0, plain.data(), first.data(), 64));
	ASSERT_TRUE(cipher.seal_unit(b, 0, plain.data(), next.data(), 64));
	EXPECT_NE(first, next);
	ASSERT_TRUE(cipher.seal_unit(a, 1, plain.data(), next.data(), 64));
	EXPECT_NE(first, next);
	ASSERT_TRUE(other.seal_unit(a, 0, plain.data(), next.data(), 64));
	EXPECT_NE(first, next);
}

TEST(temp_cipher, streams_are_ctr_at_any_position_and_carry_over_the_whole_counter)
{
	const TempReference reference(kTestSeed);
	TempCipher cipher;
	ASSERT_TRUE(cipher.make(kTestSeed));
	Bytes near_the_end(16, 0xFF);
	near_the_end[15] = 0xFE; // the second block carries through all sixteen bytes
	for (const Bytes& nonce : {Bytes(16, 0x5A), near_the_end}) {
		const Bytes plain = counting(333, 9);
		const Bytes whole = reference.stream(nonce, plain);
		for (std::size_t position = 0; position < 70; position++)
			for (const std::size_t size : {1u, 15u, 16u, 17u, 100u}) {
				Bytes out(size);
				ASSERT_TRUE(cipher.stream(nonce.data(), position, plain.data() + position, out.data(), size));
				ASSERT_EQ(Bytes(whole.begin() + position, whole.begin() + position + size), out) << position;
			}
	}
}

TEST(temp_cipher, a_cipher_that_was_not_made_refuses)
{
	TempCipher cipher;
	std::uint8_t bytes[16] = {};
	TempFileId id;
	EXPECT_FALSE(cipher.made());
	EXPECT_FALSE(cipher.file_id("x", 1, id));
	EXPECT_FALSE(cipher.seal_unit(id, 0, bytes, bytes, 16));
	EXPECT_FALSE(cipher.open_unit(id, 0, bytes, bytes, 16));
	EXPECT_FALSE(cipher.stream(bytes, 0, bytes, bytes, 16));
}

} // namespace seal
