// Known-answer tests against third-party vectors (test/vectors/README.md).
#include "vector_file.hpp"

#include "crypto/xts.hpp"
#include "seal/crypto.hpp"

#include <algorithm>

namespace seal {
namespace {

using test::read_vectors;
using test::Vector;

struct XtsContext {
	const XtsMethod& method;
	void* context;
	XtsContext(const XtsMethod& m, bool encrypt, const Bytes& key) : method(m), context(xts_new(m, encrypt, key.data()))
	{}
	XtsContext(const XtsContext&) = delete;
	~XtsContext()
	{
		if (context != nullptr)
			method.free_context(context);
	}
};

// Returns how many vectors were run: units of whole bytes only.
int run_xts(const std::string& file, CipherId cipher)
{
	const XtsMethod* const method = xts_method(cipher);
	EXPECT_NE(method, nullptr);
	int run = 0;
	for (const Vector& v : read_vectors(file)) {
		if (!v.has("DataUnitLen") || v.number("DataUnitLen") % 8 != 0)
			continue;
		const bool encrypt = v.section == "ENCRYPT";
		const Bytes key = v.hex("Key"), tweak = v.hex("i"), plain = v.hex("PT"), sealed = v.hex("CT");
		EXPECT_EQ(key.size(), method->key_size);
		EXPECT_EQ(plain.size() * 8, static_cast<std::size_t>(v.number("DataUnitLen")));
		const XtsContext x(*method, encrypt, key);
		if (x.context == nullptr) {
			ADD_FAILURE() << "no context";
			return run;
		}
		Bytes out(plain.size());
		if (encrypt) {
			EXPECT_TRUE(xts_encrypt(*method, x.context, tweak.data(), plain.data(), out.data(), plain.size()));
			EXPECT_EQ(out, sealed) << "COUNT " << v.text("COUNT");
		} else {
			EXPECT_TRUE(xts_decrypt(*method, x.context, tweak.data(), sealed.data(), out.data(), sealed.size()));
			EXPECT_EQ(out, plain) << "COUNT " << v.text("COUNT");
		}
		run++;
	}
	return run;
}

TEST(Vectors, XtsAes256FromNistCavp) { EXPECT_EQ(run_xts("XTSGenAES256.rsp", CipherId::aes_256_xts), 600); }

TEST(Vectors, XtsAes128FromNistCavpWithCiphertextStealing) // 200 of them are 25 bytes long
{
	EXPECT_EQ(run_xts("XTSGenAES128.rsp", CipherId::aes_128_xts), 800);
}

TEST(Vectors, GcmAes256FromNistCavp)
{
	int run = 0, refused = 0;
	for (const Vector& v : read_vectors("gcmDecrypt256-iv96-tag128.rsp")) {
		if (!v.has("Count"))
			continue;
		const Bytes key = v.hex("Key"), nonce = v.hex("IV"), aad = v.hex("AAD"), tag = v.hex("Tag");
		Bytes sealed = v.hex("CT");
		sealed.insert(sealed.end(), tag.begin(), tag.end());
		Bytes plain(sealed.size() - kAeadTagSize);
		const bool opened = aead_open(key.data(), nonce.data(), aad, sealed, plain);
		EXPECT_EQ(opened, !v.fails) << "Count " << v.text("Count");
		if (v.fails) {
			EXPECT_EQ(plain, Bytes(plain.size())) << "a refused text must not be handed out";
			refused++;
		} else {
			EXPECT_EQ(plain, v.hex("PT"));
			Bytes again(sealed.size());
			EXPECT_TRUE(aead_seal(key.data(), nonce.data(), aad, plain, again));
			EXPECT_EQ(again, sealed);
		}
		run++;
	}
	EXPECT_EQ(run, 375);
	EXPECT_EQ(refused, 191);
}

TEST(Vectors, HkdfFromRfc5869)
{
	int run = 0;
	Vector v;
	// A case is spread over several blocks; its members come in the order of the file.
	for (const Vector& block : read_vectors("rfc-5869-HKDF-SHA256.txt")) {
		for (const auto& [name, value] : block.values)
			v.values[name] = value;
		if (!block.has("OKM"))
			continue;
		const Bytes expected = v.hex("OKM");
		Bytes out(static_cast<std::size_t>(v.number("L")));
		EXPECT_TRUE(hkdf(v.hex("IKM"), v.hex("salt"), v.hex("info"), out));
		EXPECT_EQ(out, expected);
		std::fill(out.begin(), out.end(), std::uint8_t{0});
		EXPECT_TRUE(hkdf_expand(v.hex("PRK"), v.hex("info"), out));
		EXPECT_EQ(out, expected);
		run++;
	}
	EXPECT_EQ(run, 3);
}

TEST(Vectors, HmacFromRfc4231)
{
	int run = 0;
	for (const Vector& v : read_vectors("rfc-4231-sha256.txt")) {
		if (!v.has("MD"))
			continue;
		const Bytes expected = v.hex("MD");
		std::uint8_t mac[kSha256Size];
		EXPECT_TRUE(hmac_sha256(v.hex("Key"), v.hex("Msg"), mac));
		EXPECT_EQ(Bytes(mac, mac + sizeof mac), expected);
		run++;
	}
	EXPECT_EQ(run, 6);
}

TEST(Crypto, SelfTestPasses) { EXPECT_TRUE(crypto_self_test()); }

TEST(Crypto, HkdfExpandRefusesAShortKey)
{
	const Bytes key(31, 1);
	Bytes out(32);
	EXPECT_FALSE(hkdf_expand(key, {}, out));
}

TEST(Crypto, AeadRefusesOutputsOfTheWrongSize)
{
	const Bytes key(32, 1), nonce(12, 2), plain(10, 3);
	Bytes out(plain.size() + kAeadTagSize - 1);
	EXPECT_FALSE(aead_seal(key.data(), nonce.data(), {}, plain, out));
	EXPECT_FALSE(aead_open(key.data(), nonce.data(), {}, Bytes(15), out));
}

TEST(Crypto, RandomBytesDiffer)
{
	Bytes a(32), b(32);
	ASSERT_TRUE(random_bytes(a));
	ASSERT_TRUE(random_private_bytes(b));
	EXPECT_NE(a, b);
	EXPECT_FALSE(equal_constant_time(a, b));
	EXPECT_TRUE(equal_constant_time(a, a));
	EXPECT_FALSE(equal_constant_time(a, ByteView(a).first(31)));
}

} // namespace
} // namespace seal
