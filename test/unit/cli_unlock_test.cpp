// `pgseal unlock`, run as the server runs it: registry in, one frame of keys or a named error out.
#include "softhsm_token.hpp"

#include "seal/agent_protocol.hpp"
#include "seal/crypto.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <filesystem>

namespace seal {
namespace {

using test::CommandResult;
using test::SoftHsm;

constexpr char kPgseal[] = SEAL_BINARY_DIR "/pgseal";

Secret random_secret(std::size_t size)
{
	Secret secret(size);
	EXPECT_TRUE(random_private_bytes(secret.reveal_mutable(RevealToken{})));
	return secret;
}

class CliUnlock : public testing::Test {
protected:
	CliUnlock()
	{
		hsm_.add_token("seal");
		std::filesystem::create_directory(data_.file("pg_seal"));
		config_ = hsm_.config("seal");
	}

	Provider& provider()
	{
		if (!provider_) {
			Result<std::unique_ptr<Provider>> opened = open_provider("pkcs11", config_);
			EXPECT_TRUE(opened);
			provider_ = std::move(*opened);
		}
		return *provider_;
	}

	KekVersion new_kek(const KeyringDef& keyring, std::uint32_t version, const std::string& label)
	{
		Result<KekRef> ref = provider().create_kek(label, version > 1);
		EXPECT_TRUE(ref) << (ref ? "" : ref.error().message);
		KekVersion kek;
		kek.version = version;
		kek.provider = "hsm";
		kek.ref = *ref;
		const Secret value = random_secret(32);
		kek.check = wrap(kek.ref, value, kek_check_aad(keyring.uuid_hex, version));
		std::uint8_t digest[kSha256Size];
		EXPECT_TRUE(sha256(value.reveal(RevealToken{}), digest));
		kek.check_digest = to_hex(digest);
		kek.state = "active";
		return kek;
	}

	WrappedBlob wrap(const KekRef& kek, const Secret& secret, const Bytes& aad)
	{
		Result<std::vector<WrappedBlob>> blobs = provider().wrap(kek, {&secret, 1}, aad);
		EXPECT_TRUE(blobs) << (blobs ? "" : blobs.error().message);
		return (*blobs)[0];
	}

	void add_key(KeyringDef& keyring, std::uint32_t version, std::uint32_t kek_version)
	{
		const Secret secret = random_secret(kKeyringKeySize);
		std::uint8_t digest[kSha256Size];
		EXPECT_TRUE(sha256(secret.reveal(RevealToken{}), digest));
		digests_[{keyring.id, version}] = to_hex(digest);
		KeyringKey key;
		key.version = version;
		key.kek_version = kek_version;
		for (const KekVersion& kek : keyring.keks)
			if (kek.version == kek_version)
				key.wrapped = wrap(kek.ref, secret, keyring_key_aad(keyring.uuid_hex, version));
		key.state = "active";
		keyring.keys.push_back(std::move(key));
	}

	// A keyring with two versions of its KEK and three keyring keys, one of them still under the first KEK.
	KeyringDef keyring(std::uint32_t id, const std::string& name, const std::string& protection = "standard")
	{
		KeyringDef keyring;
		keyring.id = id;
		Bytes uuid(16);
		EXPECT_TRUE(random_bytes(uuid));
		keyring.uuid_hex = to_hex(uuid);
		keyring.name = name;
		keyring.protection = protection;
		keyring.policy_json = "{}";
		keyring.created_by = "postgres";
		keyring.keks.push_back(new_kek(keyring, 1, name));
		add_key(keyring, 1, 1);
		keyring.keks.push_back(new_kek(keyring, 2, name));
		add_key(keyring, 2, 2);
		add_key(keyring, 3, 2);
		return keyring;
	}

	void apply(const RegistryChange& change) { ASSERT_TRUE(registry_.apply(change)); }

	void store(const std::vector<KeyringDef>& keyrings)
	{
		apply(registry_.put(ProviderDef{"hsm", "pkcs11", config_, 1, 1}));
		for (const KeyringDef& keyring : keyrings)
			apply(registry_.put(keyring));
		data_.write("pg_seal/registry", registry_.serialise());
	}

	CommandResult run_unlock(const std::vector<std::string>& extra = {})
	{
		std::vector<std::string> argv = {kPgseal, "unlock", "-D", data_.path()};
		argv.insert(argv.end(), extra.begin(), extra.end());
		return test::run(argv);
	}

	static UnlockReply reply_of(const CommandResult& result)
	{
		EXPECT_EQ(result.exit_code, 0) << result.errors;
		const ByteView frame = as_bytes(result.output);
		EXPECT_GE(frame.size(), 12u);
		const std::size_t length = frame[0] | frame[1] << 8 | frame[2] << 16 | std::size_t{frame[3]} << 24;
		EXPECT_EQ(length, frame.size() - 4) << "one frame and nothing else";
		Result<UnlockReply> reply = UnlockReply::decode(frame.subspan(12));
		EXPECT_TRUE(reply);
		return reply ? std::move(*reply) : UnlockReply{};
	}

	void expect_failure(ErrorCode code, const std::vector<std::string>& parts,
	                    const std::vector<std::string>& extra = {})
	{
		const CommandResult result = run_unlock(extra);
		const UnlockReply reply = reply_of(result);
		ASSERT_TRUE(reply.error);
		EXPECT_TRUE(reply.keys.empty());
		EXPECT_EQ(static_cast<int>(reply.error->code), static_cast<int>(code)) << reply.error->message;
		for (const std::string& part : parts)
			EXPECT_NE((reply.error->message + reply.error->hint).find(part), std::string::npos)
				<< part << ": " << reply.error->message;
		EXPECT_EQ(result.errors.find("648219"), std::string::npos);
	}

	SoftHsm hsm_;
	test::TemporaryDirectory data_;
	std::string config_;
	std::unique_ptr<Provider> provider_;
	Registry registry_;
	std::map<std::pair<std::uint32_t, std::uint32_t>, std::string> digests_;
};

TEST_F(CliUnlock, gives_every_version_of_every_keyring)
{
	std::vector<KeyringDef> keyrings;
	keyrings.push_back(keyring(7, "default"));
	keyrings.push_back(keyring(9, "vault", "hsm"));
	store(keyrings);
	const UnlockReply reply = reply_of(run_unlock());
	ASSERT_FALSE(reply.error) << reply.error->message;
	ASSERT_EQ(reply.keys.size(), 6u);
	for (const UnlockedKey& key : reply.keys) {
		std::uint8_t digest[kSha256Size];
		ASSERT_TRUE(sha256(key.key.reveal(RevealToken{}), digest));
		EXPECT_EQ(to_hex(digest), (digests_[{key.keyring_id, key.version}])) << key.keyring_id << "/" << key.version;
	}
}

TEST_F(CliUnlock, a_server_without_keyrings_has_nothing_to_unlock)
{
	const UnlockReply reply = reply_of(run_unlock());
	EXPECT_FALSE(reply.error);
	EXPECT_TRUE(reply.keys.empty());
	store({});
	EXPECT_FALSE(reply_of(run_unlock()).error);
}

TEST_F(CliUnlock, a_swapped_kek_is_a_key_mismatch)
{
	std::vector<KeyringDef> keyrings;
	keyrings.push_back(keyring(7, "default"));
	const std::string id = keyrings[0].keks[1].ref.id_hex;
	hsm_.pkcs11_tool("seal", {"--delete-object", "--type", "secrkey", "--id", id});
	const std::string file = data_.write("key", std::string(32, 'x'));
	hsm_.pkcs11_tool("seal", {"--write-object", file, "--type", "secrkey", "--key-type", "AES:32", "--label", "default",
	                          "--id", id, "--sensitive"});
	store(keyrings);
	expect_failure(ErrorCode::key_mismatch, {"keyring 'default'", "provider 'hsm'", "version 2"});
}

TEST_F(CliUnlock, a_check_value_of_another_digest_is_a_key_mismatch)
{
	std::vector<KeyringDef> keyrings;
	keyrings.push_back(keyring(7, "default"));
	keyrings[0].keks[0].check_digest = std::string(64, '0');
	store(keyrings);
	expect_failure(ErrorCode::key_mismatch, {"keyring 'default'", "version 1"});
}

TEST_F(CliUnlock, a_damaged_keyring_key_is_not_called_a_swapped_kek)
{
	std::vector<KeyringDef> keyrings;
	keyrings.push_back(keyring(7, "default"));
	keyrings[0].keys[1].wrapped.data[5] ^= 1;
	store(keyrings);
	expect_failure(ErrorCode::corrupt, {"keyring 'default'", "version 2", "backup"});
}

TEST_F(CliUnlock, keys_of_another_keyring_do_not_verify)
{
	std::vector<KeyringDef> keyrings;
	keyrings.push_back(keyring(7, "default"));
	std::swap(keyrings[0].keys[1].wrapped, keyrings[0].keys[2].wrapped);
	store(keyrings);
	expect_failure(ErrorCode::corrupt, {"does not verify"});
}

TEST_F(CliUnlock, names_keyring_and_provider_when_the_device_is_missing_or_refuses)
{
	std::vector<KeyringDef> keyrings;
	keyrings.push_back(keyring(7, "default"));
	store(keyrings);
	const auto overrides = [&](const std::string& member, const std::string& value) {
		return std::vector<std::string>{"--overrides",
		                                data_.write("overrides", nlohmann::json{{"hsm", {{member, value}}}}.dump())};
	};
	expect_failure(ErrorCode::provider_unreachable,
	               {"keyring 'default', provider 'hsm'", "token 'gone' is not present"}, overrides("token", "gone"));
	expect_failure(ErrorCode::provider_unreachable, {"keyring 'default', provider 'hsm'", "/nowhere.so"},
	               overrides("module", "/nowhere.so"));
	expect_failure(ErrorCode::pin_incorrect, {"keyring 'default', provider 'hsm'", "rejected the PIN"},
	               overrides("pin_file", data_.write("wrong", "123123")));
	expect_failure(ErrorCode::io_error, {"/nowhere/pin"}, overrides("pin_file", "/nowhere/pin"));
	expect_failure(ErrorCode::not_found, {"overrides", "/nowhere/overrides"}, {"--overrides", "/nowhere/overrides"});
	EXPECT_FALSE(reply_of(run_unlock(overrides("pin_file", hsm_.pin_file()))).error);
}

TEST_F(CliUnlock, another_token_of_the_same_label_lacks_the_key)
{
	std::vector<KeyringDef> keyrings;
	keyrings.push_back(keyring(7, "default"));
	SoftHsm other;
	other.add_token("seal");
	config_ = other.config("seal");
	store(keyrings);
	expect_failure(ErrorCode::key_missing, {"keyring 'default', provider 'hsm'", "'default'"});
}

TEST_F(CliUnlock, a_damaged_registry_is_reported)
{
	std::vector<KeyringDef> keyrings;
	keyrings.push_back(keyring(7, "default"));
	store(keyrings);
	std::string text = registry_.serialise();
	text[text.size() / 2] ^= 1;
	data_.write("pg_seal/registry", text);
	expect_failure(ErrorCode::corrupt, {"registry"});
}

TEST_F(CliUnlock, writes_keys_to_a_pipe_only)
{
	std::vector<KeyringDef> keyrings;
	keyrings.push_back(keyring(7, "default"));
	store(keyrings);
	const std::string command = std::string(kPgseal) + " unlock -D " + data_.path();
	const CommandResult file = test::run({"/bin/sh", "-c", command + " > " + data_.file("out")});
	EXPECT_EQ(file.exit_code, 1);
	EXPECT_EQ(std::filesystem::file_size(data_.file("out")), 0u);
	const CommandResult terminal = test::run({"script", "-qec", command, "/dev/null"});
	EXPECT_EQ(terminal.exit_code, 1) << terminal.output;
	EXPECT_NE(terminal.output.find("must be a pipe"), std::string::npos) << terminal.output;
}

} // namespace
} // namespace seal
