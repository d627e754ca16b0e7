// What sealed temporary files must contain, computed anew: XTS, ciphertext stealing and CTR by hand from single AES blocks (EVP AES-256-ECB), keys by
// one-step HKDF from HMAC. Written from IEEE 1619, SP 800-38A, RFC 5869 and docs/formats.md; nothing of the core's temp code is used.
#pragma once

#include "seal/bytes.hpp"
#include "seal/temp_cipher.hpp"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace seal {

inline constexpr std::uint8_t kTestSeed[kTempSeedSize] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11,
                                                          12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
                                                          23, 24, 25, 26, 27, 28, 29, 30, 31, 32};

class TempReference {
public:
	explicit TempReference(const std::uint8_t seed[kTempSeedSize])
		: unit_key_(expand(seed, "pg_seal temp unit v1", 64)), path_key_(expand(seed, "pg_seal temp path v1", 32)),
		  stream_key_(expand(seed, "pg_seal temp stream v1", 32))
	{}

	TempFileId file_id(const std::string& path) const
	{
		TempFileId id;
		const Bytes mac = hmac(path_key_, Bytes(path.begin(), path.end()));
		std::memcpy(id.bytes, mac.data(), sizeof id.bytes);
		return id;
	}

	// One granule at its place in a unit.
	Bytes granule(const TempFileId& id, std::uint32_t unit, std::size_t index, ByteView plain) const
	{
		const Bytes& tweak = tweaks(id, unit)[index];
		Bytes out(16);
		for (int i = 0; i < 16; i++)
			out[i] = plain[i] ^ tweak[i];
		out = block({unit_key_.data(), 32}, out);
		for (int i = 0; i < 16; i++)
			out[i] ^= tweak[i];
		return out;
	}
	Bytes place(const TempFileId& id, std::size_t granule_number, ByteView plain) const
	{
		return granule(id, static_cast<std::uint32_t>(granule_number / 512), granule_number % 512, plain);
	}

	// A whole file.
	Bytes file(const TempFileId& id, const Bytes& plain) const
	{
		const std::size_t whole = plain.size() / 16, rest = plain.size() % 16;
		if (whole == 0) {
			Bytes size(16, 0), out = plain;
			size[0] = static_cast<std::uint8_t>(rest);
			const Bytes pad = granule(id, kTempPadUnit, 0, size);
			for (std::size_t i = 0; i < rest; i++)
				out[i] ^= pad[i];
			return out;
		}
		Bytes out;
		for (std::size_t i = 0; i < whole; i++) {
			const Bytes one = place(id, i, {plain.data() + 16 * i, 16});
			out.insert(out.end(), one.begin(), one.end());
		}
		if (rest == 0)
			return out;
		const Bytes stolen(out.end() - 16, out.end());
		Bytes last(plain.end() - static_cast<std::ptrdiff_t>(rest), plain.end());
		last.insert(last.end(), stolen.begin() + static_cast<std::ptrdiff_t>(rest), stolen.end());
		const Bytes before = place(id, whole, last);
		std::copy(before.begin(), before.end(), out.end() - 16);
		out.insert(out.end(), stolen.begin(), stolen.begin() + static_cast<std::ptrdiff_t>(rest));
		return out;
	}

	Bytes stream(const Bytes& nonce, const Bytes& plain) const
	{
		Bytes out = plain, counter = nonce, pad;
		for (std::size_t i = 0; i < plain.size(); i++) {
			if (i % 16 == 0) {
				pad = block(stream_key_, counter);
				for (int b = 15; b >= 0 && ++counter[b] == 0; b--) {}
			}
			out[i] ^= pad[i % 16];
		}
		return out;
	}

private:
	static Bytes hmac(ByteView key, ByteView data)
	{
		Bytes mac(32);
		unsigned size = 0;
		if (!HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), data.data(), data.size(), mac.data(),
		          &size) ||
		    size != 32)
			std::abort();
		return mac;
	}
	static Bytes expand(const std::uint8_t* seed, const std::string& label, std::size_t size)
	{
		Bytes out, last;
		for (std::uint8_t n = 1; out.size() < size; n++) {
			last.insert(last.end(), label.begin(), label.end());
			last.push_back(n);
			last = hmac({seed, kTempSeedSize}, last);
			out.insert(out.end(), last.begin(), last.end());
		}
		out.resize(size);
		return out;
	}
	// The tweaks of a unit's granules: each is the one before, times x in GF(2^128), little endian.
	const std::vector<Bytes>& tweaks(const TempFileId& id, std::uint32_t unit) const
	{
		Bytes tweak(id.bytes, id.bytes + kTempFileIdSize);
		for (int i = 0; i < 4; i++)
			tweak.push_back(static_cast<std::uint8_t>(unit >> (8 * i)));
		std::vector<Bytes>& all = tweaks_[tweak];
		if (!all.empty())
			return all;
		tweak = block({unit_key_.data() + 32, 32}, tweak);
		for (std::size_t i = 0; i < 512; i++) {
			all.push_back(tweak);
			unsigned carry = 0;
			for (std::uint8_t& byte : tweak) {
				const unsigned next = byte >> 7;
				byte = static_cast<std::uint8_t>(byte << 1 | carry);
				carry = next;
			}
			if (carry)
				tweak[0] ^= 0x87;
		}
		return all;
	}

	static Bytes block(ByteView key, const Bytes& in)
	{
		struct Free {
			void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
		};
		static std::map<Bytes, std::unique_ptr<EVP_CIPHER_CTX, Free>> contexts;
		Bytes out(32);
		int size = 0;
		std::unique_ptr<EVP_CIPHER_CTX, Free>& context = contexts[Bytes(key.begin(), key.end())];
		if (!context) {
			context.reset(EVP_CIPHER_CTX_new());
			if (!context || EVP_EncryptInit_ex(context.get(), EVP_aes_256_ecb(), nullptr, key.data(), nullptr) != 1 ||
			    EVP_CIPHER_CTX_set_padding(context.get(), 0) != 1)
				std::abort();
		}
		if (EVP_EncryptUpdate(context.get(), out.data(), &size, in.data(), 16) != 1 || size != 16)
			std::abort();
		out.resize(16);
		return out;
	}

	Bytes unit_key_, path_key_, stream_key_;
	mutable std::map<Bytes, std::vector<Bytes>> tweaks_;
};

} // namespace seal
