// Wrapping and unwrapping by a token, with each mechanism forced in turn.
#include "softhsm_token.hpp"

#include "seal/crypto.hpp"
#include "seal/provider.hpp"

#include <gtest/gtest.h>

namespace seal {
namespace {

using test::SoftHsm;

std::unique_ptr<Provider> open(const std::string& config)
{
	Result<std::unique_ptr<Provider>> provider = open_provider("pkcs11", config);
	EXPECT_TRUE(provider) << (provider ? "" : provider.error().message);
	return provider ? std::move(*provider) : nullptr;
}

Secret secret_of(std::size_t size, std::uint8_t seed)
{
	Secret secret(size);
	for (std::size_t i = 0; i < size; ++i)
		secret.reveal_mutable(RevealToken{})[i] = static_cast<std::uint8_t>(seed + 7 * i);
	return secret;
}

bool same(const Secret& a, const Secret& b)
{
	return equal_constant_time(a.reveal(RevealToken{}), b.reveal(RevealToken{}));
}

std::string mechanisms(const std::string& name) { return "\"mechanisms\":[\"" + name + "\"]"; }

const Bytes kAad = {'c', 'o', 'n', 't', 'e', 'x', 't'};

struct Case {
	const char* name;
	WrapMechanism id;
	std::size_t blob_size; // of a 32-byte secret, compact
	bool binds_context;
};

std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

class EachMechanism : public testing::TestWithParam<Case> {
protected:
	EachMechanism() { hsm_.add_token("seal"); }

	KekRef make_kek(Provider& provider, const std::string& label = "kek")
	{
		Result<KekRef> kek = provider.create_kek(label);
		EXPECT_TRUE(kek) << (kek ? "" : kek.error().message);
		return kek ? *kek : KekRef{};
	}

	SoftHsm hsm_;
	std::unique_ptr<Provider> provider_ = open(hsm_.config("seal", mechanisms(GetParam().name)));
};

TEST_P(EachMechanism, opens_what_it_wrapped_and_records_the_mechanism)
{
	const KekRef kek = make_kek(*provider_);
	EXPECT_EQ(kek.mechanism, GetParam().id);
	EXPECT_EQ(kek.label, "kek");
	EXPECT_EQ(kek.id_hex.size(), 32u);
	for (std::size_t size : {16u, 24u, 32u, 64u}) {
		const Secret secret = secret_of(size, 3);
		Result<std::vector<WrappedBlob>> blobs = provider_->wrap(kek, {&secret, 1}, kAad);
		ASSERT_TRUE(blobs) << blobs.error().message;
		ASSERT_EQ(blobs->size(), 1u);
		EXPECT_EQ((*blobs)[0].mechanism, GetParam().id);
		Result<std::vector<Secret>> back = provider_->unwrap(kek, *blobs, kAad);
		ASSERT_TRUE(back) << back.error().message;
		EXPECT_TRUE(same((*back)[0], secret)) << size;
	}
}

TEST_P(EachMechanism, a_wrapped_seed_fits_a_key_slot)
{
	const KekRef kek = make_kek(*provider_);
	const Secret secret = secret_of(kDekSeedSize, 1);
	Result<std::vector<WrappedBlob>> blobs = provider_->wrap(kek, {&secret, 1}, kAad);
	ASSERT_TRUE(blobs) << blobs.error().message;
	const Bytes compact = (*blobs)[0].compact();
	EXPECT_EQ(compact.size(), GetParam().blob_size);
	EXPECT_LE(compact.size(), kWrappedSeedMax);
	const std::optional<WrappedBlob> again = WrappedBlob::from_compact(GetParam().id, compact);
	ASSERT_TRUE(again);
	Result<std::vector<Secret>> back = provider_->unwrap(kek, {&*again, 1}, kAad);
	ASSERT_TRUE(back) << back.error().message;
	EXPECT_TRUE(same((*back)[0], secret));
}

TEST_P(EachMechanism, serves_batches_of_a_thousand)
{
	const KekRef kek = make_kek(*provider_);
	std::vector<Secret> secrets;
	for (int i = 0; i < 1000; ++i)
		secrets.push_back(secret_of(32, static_cast<std::uint8_t>(i)));
	Result<std::vector<WrappedBlob>> blobs = provider_->wrap(kek, secrets, kAad);
	ASSERT_TRUE(blobs) << blobs.error().message;
	Result<std::vector<Secret>> back = provider_->unwrap(kek, *blobs, kAad);
	ASSERT_TRUE(back) << back.error().message;
	ASSERT_EQ(back->size(), 1000u);
	for (std::size_t i = 0; i < 1000; ++i)
		ASSERT_TRUE(same((*back)[i], secrets[i])) << i;
}

TEST_P(EachMechanism, refuses_every_altered_byte_and_works_afterwards)
{
	const KekRef kek = make_kek(*provider_);
	const Secret secret = secret_of(32, 9);
	Result<std::vector<WrappedBlob>> blobs = provider_->wrap(kek, {&secret, 1}, kAad);
	ASSERT_TRUE(blobs) << blobs.error().message;
	const WrappedBlob good = (*blobs)[0];
	for (std::size_t i = 0; i < good.iv.size() + good.data.size(); ++i) {
		WrappedBlob bad = good;
		(i < bad.iv.size() ? bad.iv[i] : bad.data[i - bad.iv.size()]) ^= 1;
		Result<std::vector<Secret>> back = provider_->unwrap(kek, {&bad, 1}, kAad);
		ASSERT_FALSE(back) << "byte " << i;
		EXPECT_EQ(back.error().code, ErrorCode::authentication_failed) << back.error().message;
	}
	for (std::size_t size = 0; size < good.data.size(); ++size) {
		WrappedBlob bad = good;
		bad.data.resize(size);
		Result<std::vector<Secret>> back = provider_->unwrap(kek, {&bad, 1}, kAad);
		ASSERT_FALSE(back) << "size " << size;
		EXPECT_EQ(back.error().code, ErrorCode::authentication_failed) << back.error().message;
	}
	Result<std::vector<Secret>> back = provider_->unwrap(kek, {&good, 1}, kAad);
	ASSERT_TRUE(back) << back.error().message;
	EXPECT_TRUE(same((*back)[0], secret));
}

TEST_P(EachMechanism, binds_the_context_where_it_can)
{
	const KekRef kek = make_kek(*provider_);
	const Secret secret = secret_of(32, 9);
	Result<std::vector<WrappedBlob>> blobs = provider_->wrap(kek, {&secret, 1}, kAad);
	ASSERT_TRUE(blobs) << blobs.error().message;
	const Bytes other = {'c', 'o', 'n', 't', 'e', 'x', 'u'};
	Result<std::vector<Secret>> back = provider_->unwrap(kek, *blobs, other);
	EXPECT_EQ(back.ok(), !GetParam().binds_context);
	Bytes longer = kAad;
	longer.push_back(0);
	EXPECT_EQ(provider_->unwrap(kek, *blobs, longer).ok(), !GetParam().binds_context);
	EXPECT_TRUE(provider_->unwrap(kek, *blobs, kAad));
}

TEST_P(EachMechanism, another_kek_of_the_same_label_does_not_open_it)
{
	const KekRef first = make_kek(*provider_);
	Result<KekRef> second = provider_->create_kek("kek", true);
	ASSERT_TRUE(second) << second.error().message;
	EXPECT_NE(first.id_hex, second->id_hex);
	const Secret secret = secret_of(32, 2);
	Result<std::vector<WrappedBlob>> blobs = provider_->wrap(first, {&secret, 1}, kAad);
	ASSERT_TRUE(blobs) << blobs.error().message;
	Result<std::vector<Secret>> back = provider_->unwrap(*second, *blobs, kAad);
	ASSERT_FALSE(back);
	EXPECT_EQ(back.error().code, ErrorCode::authentication_failed) << back.error().message;
	EXPECT_TRUE(provider_->unwrap(first, *blobs, kAad));
}

TEST_P(EachMechanism, the_kek_has_the_usages_of_its_mechanism_only_and_never_leaves)
{
	make_kek(*provider_);
	const std::string listing = hsm_.pkcs11_tool("seal", {"--list-objects", "--type", "secrkey"}).output;
	const std::string wanted =
		GetParam().id == WrapMechanism::pkcs11_aes_kw ? "Usage:      wrap, unwrap\n" : "Usage:      encrypt, decrypt\n";
	EXPECT_NE(listing.find(wanted), std::string::npos) << listing;
	EXPECT_NE(listing.find("sensitive, always sensitive, never extractable, local"), std::string::npos) << listing;
	EXPECT_EQ(listing.find("kek mac") != std::string::npos, GetParam().id == WrapMechanism::pkcs11_cbc_hmac) << listing;
}

TEST_P(EachMechanism, leaves_no_session_object_in_the_token)
{
	const KekRef kek = make_kek(*provider_);
	const Secret secret = secret_of(32, 2);
	for (int i = 0; i < 3; ++i) {
		Result<std::vector<WrappedBlob>> blobs = provider_->wrap(kek, {&secret, 1}, kAad);
		ASSERT_TRUE(blobs);
		ASSERT_TRUE(provider_->unwrap(kek, *blobs, kAad));
	}
	const std::string detail = provider_->check().at(0).detail;
	EXPECT_NE(detail.find("AES keys: 1;"), std::string::npos) << detail;
}

INSTANTIATE_TEST_SUITE_P(Pkcs11, EachMechanism,
                         testing::Values(Case{"aes-gcm", WrapMechanism::pkcs11_aes_gcm, 60, true},
                                         Case{"aes-key-wrap", WrapMechanism::pkcs11_aes_kw, 40, false},
                                         Case{"aes-cbc-pad-hmac", WrapMechanism::pkcs11_cbc_hmac, 80, true}),
                         [](const auto& info) {
							 std::string name = info.param.name;
							 std::replace(name.begin(), name.end(), '-', '_');
							 return name;
						 });

class Pkcs11Provider : public testing::Test {
protected:
	Pkcs11Provider() { hsm_.add_token("seal"); }
	SoftHsm hsm_;
};

TEST_F(Pkcs11Provider, prefers_gcm)
{
	Result<KekRef> kek = open(hsm_.config("seal"))->create_kek("kek");
	ASSERT_TRUE(kek) << kek.error().message;
	EXPECT_EQ(kek->mechanism, WrapMechanism::pkcs11_aes_gcm);
}

TEST_F(Pkcs11Provider, a_second_process_like_provider_finds_the_kek_by_its_id)
{
	const auto one = open(hsm_.config("seal"));
	Result<KekRef> kek = one->create_kek("kek");
	ASSERT_TRUE(kek);
	const Secret secret = secret_of(32, 5);
	Result<std::vector<WrappedBlob>> blobs = one->wrap(*kek, {&secret, 1}, kAad);
	ASSERT_TRUE(blobs);
	const auto two = open(hsm_.config_text("\"serial\":\"" + hsm_.serial_of("seal") + "\",\"pin_command\":\"cat " +
	                                       hsm_.pin_file() + "\""));
	Result<std::vector<Secret>> back = two->unwrap(*kek, *blobs, kAad);
	ASSERT_TRUE(back) << back.error().message;
	EXPECT_TRUE(same((*back)[0], secret));
}

TEST_F(Pkcs11Provider, is_reached_by_a_uri)
{
	const std::string uri = std::string("pkcs11:token=seal;object=kek?module-path=") + test::kSoftHsmModule +
	                        "&pin-source=file:" + hsm_.pin_file();
	const std::string config = "{\"uri\":\"" + uri + "\",\"environment\":{\"SOFTHSM2_CONF\":\"" +
	                           hsm_.directory().file("softhsm2.conf") + "\"}}";
	const auto provider = open(config);
	Result<KekRef> kek = provider->create_kek("kek");
	EXPECT_TRUE(kek) << kek.error().message;
	Result<KekRef> other = provider->create_kek("another");
	ASSERT_FALSE(other);
	EXPECT_NE(other.error().message.find("names the object 'kek'"), std::string::npos) << other.error().message;
}

TEST_F(Pkcs11Provider, check_reports_token_mechanisms_and_latency)
{
	const std::vector<EndpointStatus> rows = open(hsm_.config("seal"))->check();
	ASSERT_EQ(rows.size(), 1u);
	EXPECT_TRUE(rows[0].ok) << rows[0].detail;
	EXPECT_NE(rows[0].endpoint.find("token 'seal', serial " + hsm_.serial_of("seal")), std::string::npos)
		<< rows[0].endpoint;
	EXPECT_NE(rows[0].detail.find("aes-gcm, aes-key-wrap, aes-cbc-pad-hmac"), std::string::npos) << rows[0].detail;
	EXPECT_FALSE(rows[0].certificate_expires);
}

TEST_F(Pkcs11Provider, adopts_a_key_that_was_imported_sensitive)
{
	const std::string file = hsm_.directory().write("key", std::string(32, 'k'));
	hsm_.pkcs11_tool("seal", {"--write-object", file, "--type", "secrkey", "--key-type", "AES:32", "--label", "own",
	                          "--id", "0a0b", "--sensitive"});
	const auto provider = open(hsm_.config("seal"));
	Result<KekRef> kek = provider->adopt_kek("own");
	ASSERT_TRUE(kek) << kek.error().message;
	EXPECT_EQ(kek->id_hex, "0a0b");
	EXPECT_EQ(kek->mechanism, WrapMechanism::pkcs11_aes_gcm);
	const Secret secret = secret_of(32, 5);
	Result<std::vector<WrappedBlob>> blobs = provider->wrap(*kek, {&secret, 1}, kAad);
	ASSERT_TRUE(blobs) << blobs.error().message;
	// An independent view of what the token did: plain AES-256-GCM under the imported key.
	const Bytes key(32, 'k');
	Bytes plain(32);
	ASSERT_TRUE(aead_open(key.data(), (*blobs)[0].iv.data(), kAad, (*blobs)[0].data, plain));
	EXPECT_TRUE(equal_constant_time(plain, secret.reveal(RevealToken{})));
}

TEST_F(Pkcs11Provider, adopts_a_key_that_has_no_id)
{
	const std::string file = hsm_.directory().write("key", std::string(32, 'k'));
	hsm_.pkcs11_tool(
		"seal", {"--write-object", file, "--type", "secrkey", "--key-type", "AES:32", "--label", "own", "--sensitive"});
	const auto provider = open(hsm_.config("seal"));
	Result<KekRef> kek = provider->adopt_kek("own");
	ASSERT_TRUE(kek) << kek.error().message;
	EXPECT_EQ(kek->id_hex, "");
	const Secret secret = secret_of(32, 5);
	Result<std::vector<WrappedBlob>> blobs = provider->wrap(*kek, {&secret, 1}, kAad);
	ASSERT_TRUE(blobs) << blobs.error().message;
	EXPECT_TRUE(provider->unwrap(*kek, *blobs, kAad));
}

} // namespace
} // namespace seal
