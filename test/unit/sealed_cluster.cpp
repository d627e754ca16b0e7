#include "sealed_cluster.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <random>

namespace seal::test {

namespace {

class StringFile final : public WalRawIo {
public:
	std::string bytes;
	ssize_t read(int, void* buffer, std::size_t size, off_t offset, std::uint64_t) noexcept override
	{
		const auto at = static_cast<std::size_t>(offset);
		const std::size_t n = at >= bytes.size() ? 0 : std::min(size, bytes.size() - at);
		std::memcpy(buffer, bytes.data() + at, n);
		return static_cast<ssize_t>(n);
	}
	ssize_t write(int, const void* buffer, std::size_t size, off_t offset, std::uint64_t) noexcept override
	{
		const auto at = static_cast<std::size_t>(offset);
		if (bytes.size() < at + size)
			bytes.resize(at + size);
		std::memcpy(bytes.data() + at, buffer, size);
		return static_cast<ssize_t>(size);
	}
};

template <class T> void put(std::string& bytes, std::size_t at, T value)
{
	std::memcpy(bytes.data() + at, &value, sizeof value);
}

Secret random_secret(std::size_t size)
{
	Secret secret(size);
	EXPECT_TRUE(random_private_bytes(secret.reveal_mutable(RevealToken{})));
	return secret;
}

WrappedBlob wrap(Provider& provider, const KekRef& kek, const Secret& secret, const Bytes& aad)
{
	Result<std::vector<WrappedBlob>> blobs = provider.wrap(kek, {&secret, 1}, aad);
	EXPECT_TRUE(blobs) << (blobs ? "" : blobs.error().message);
	return (*blobs)[0];
}

} // namespace

SealedCluster::SealedCluster(std::uint32_t generations, std::uint64_t system)
{
	hsm_.add_token("seal");
	for (const char* folder : {"pg_seal", "global", "pg_wal", "base", "pg_tblspc"})
		std::filesystem::create_directory(data_.file(folder));
	data_.write("PG_VERSION", "15\n");
	data_.write("global/pg_control", std::string(reinterpret_cast<const char*>(&system), sizeof system));
	make_keyring();
	for (std::uint32_t generation = 1; generation <= generations; ++generation) {
		WalKeyDef def;
		def.generation = generation;
		def.keyring_id = keyring_.id;
		def.keyring_version = 1;
		def.cipher = generation % 2 ? CipherId::aes_256_xts : CipherId::aes_128_xts;
		std::uint8_t key[kWalKeySize];
		EXPECT_TRUE(wal_key_make(def, keyring_.uuid_hex, keyring_key_.reveal(RevealToken{}).data(), key));
		keys_[generation] =
			std::string(reinterpret_cast<const char*>(key), def.cipher == CipherId::aes_256_xts ? 64 : 32);
		auto cipher = std::make_unique<WalCipher>();
		EXPECT_TRUE(cipher->make(def.cipher) && cipher->set_key(key));
		ciphers_[generation] = std::move(cipher);
		wal_.keys.push_back(def);
	}
	EXPECT_TRUE(registry_.apply(registry_.put(ProviderDef{"hsm", "pkcs11", hsm_.config("seal"), 1, 1})));
	EXPECT_TRUE(registry_.apply(registry_.put(keyring_)));
	store(generations);
}

void SealedCluster::make_keyring()
{
	Result<std::unique_ptr<Provider>> provider = open_provider("pkcs11", hsm_.config("seal"));
	ASSERT_TRUE(provider);
	Result<KekRef> ref = (*provider)->create_kek("default", false);
	ASSERT_TRUE(ref);
	Bytes uuid(16);
	ASSERT_TRUE(random_bytes(uuid));
	keyring_.id = 7;
	keyring_.uuid_hex = to_hex(uuid);
	keyring_.name = "default";
	keyring_.protection = "standard";
	keyring_.policy_json = "{}";
	KekVersion kek;
	kek.version = 1;
	kek.provider = "hsm";
	kek.ref = *ref;
	kek.state = "active";
	const Secret check = random_secret(32);
	std::uint8_t digest[kSha256Size];
	ASSERT_TRUE(sha256(check.reveal(RevealToken{}), digest));
	kek.check = wrap(**provider, kek.ref, check, kek_check_aad(keyring_.uuid_hex, 1));
	kek.check_digest = to_hex(digest);
	keyring_key_ = random_secret(kKeyringKeySize);
	KeyringKey key;
	key.version = 1;
	key.kek_version = 1;
	key.wrapped = wrap(**provider, kek.ref, keyring_key_, keyring_key_aad(keyring_.uuid_hex, 1));
	key.state = "active";
	keyring_.keks.push_back(kek);
	keyring_.keys.push_back(key);
}

void SealedCluster::store(std::uint32_t active) const
{
	wal_.active = active;
	EXPECT_TRUE(registry_.apply(registry_.put(wal_)));
	data_.write("pg_seal/registry", registry_.serialise());
}

void SealedCluster::put_provider(const std::string& config_json) const
{
	EXPECT_TRUE(registry_.apply(registry_.put(ProviderDef{"hsm", "pkcs11", config_json, 1, 1})));
	data_.write("pg_seal/registry", registry_.serialise());
}

std::string SealedCluster::segment_name(std::uint32_t number)
{
	char name[32];
	std::snprintf(name, sizeof name, "%08X%08X%08X", 1u, 0u, number);
	return name;
}

std::string SealedCluster::plain_segment(std::uint32_t number, unsigned pages)
{
	std::string bytes(kSegment, '\0');
	std::mt19937 random(number);
	for (std::size_t page = 0; page < pages; ++page) {
		const std::size_t at = page * kWalPageSize;
		const std::size_t header = page == 0 ? kWalLongHeader : kWalShortHeader;
		put<std::uint16_t>(bytes, at, 0xD110);
		put<std::uint16_t>(bytes, at + kWalInfoOffset, page == 0 ? kWalLongInfo : 1);
		put<std::uint32_t>(bytes, at + kWalTimelineOffset, 1);
		put<std::uint64_t>(bytes, at + kWalAddressOffset, std::uint64_t{number} * kSegment + at);
		if (page == 0) {
			put<std::uint64_t>(bytes, at + kWalSystemOffset, kSystem);
			put<std::uint32_t>(bytes, at + kWalSegmentSizeOffset, kSegment);
			put<std::uint32_t>(bytes, at + kWalSegmentSizeOffset + 4, kWalPageSize);
		}
		for (std::size_t i = header; i < kWalPageSize; ++i)
			bytes[at + i] = static_cast<char>(random());
	}
	return bytes;
}

std::string SealedCluster::sealed(const std::string& plain, std::uint32_t generation)
{
	StringFile file;
	auto io = std::make_unique<WalSegmentIo>(*this, file);
	WalFile segment;
	segment.fd = 0;
	segment.segment_size = kSegment;
	std::memcpy(&segment.start, plain.data() + kWalAddressOffset, sizeof segment.start);
	writing_ = generation;
	EXPECT_EQ(io->pwrite(segment, plain.data(), plain.size(), 0), static_cast<ssize_t>(plain.size()));
	return file.bytes;
}

WalCipher* SealedCluster::by_mark(std::uint16_t mark, std::uint32_t* generation) noexcept
{
	const auto found = ciphers_.find(mark);
	if (found == ciphers_.end())
		return nullptr;
	*generation = mark;
	return found->second.get();
}

} // namespace seal::test
