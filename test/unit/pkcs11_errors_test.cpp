// Every way in which a token can be missing, wrong or unfit has an error of its own that names the thing and the
// remedy.
#include "softhsm_token.hpp"

#include "seal/provider.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace seal {
namespace {

using test::SoftHsm;

std::unique_ptr<Provider> open(const std::string& config)
{
	Result<std::unique_ptr<Provider>> provider = open_provider("pkcs11", config);
	EXPECT_TRUE(provider) << (provider ? "" : provider.error().message);
	return provider ? std::move(*provider) : nullptr;
}

template <class T> void expect_error(const Result<T>& result, ErrorCode code, const std::vector<std::string>& parts)
{
	ASSERT_FALSE(result);
	EXPECT_EQ(static_cast<int>(result.error().code), static_cast<int>(code)) << result.error().message;
	for (const std::string& part : parts)
		EXPECT_NE((result.error().message + "\n" + result.error().hint).find(part), std::string::npos)
			<< "no \"" << part << "\" in: " << result.error().message << " HINT: " << result.error().hint;
	EXPECT_FALSE(result.error().hint.empty()) << result.error().message;
}

const Bytes kAad = {1, 2, 3};

class Pkcs11Errors : public testing::Test {
protected:
	Pkcs11Errors() { hsm_.add_token("seal"); }
	SoftHsm hsm_;
};

TEST_F(Pkcs11Errors, missing_module)
{
	const auto provider = open(R"({"module":"/nowhere/libhsm.so","token":"seal"})");
	expect_error(provider->create_kek("kek"), ErrorCode::provider_unreachable, {"/nowhere/libhsm.so", "No such file"});
	EXPECT_FALSE(provider->check().at(0).ok);
}

TEST_F(Pkcs11Errors, a_module_that_is_no_library_or_no_pkcs11_library)
{
	const std::string text = hsm_.directory().write("not_a_library.so", "hello");
	expect_error(open("{\"module\":\"" + text + "\",\"token\":\"seal\"}")->create_kek("kek"),
	             ErrorCode::provider_unreachable, {text, "cannot be loaded"});
	const std::string other = "/lib/x86_64-linux-gnu/libm.so.6";
	if (std::filesystem::exists(other))
		expect_error(open("{\"module\":\"" + other + "\",\"token\":\"seal\"}")->create_kek("kek"),
		             ErrorCode::provider_unreachable, {other, "no PKCS#11 library"});
}

TEST_F(Pkcs11Errors, token_not_present_says_what_is_and_that_permissions_look_the_same)
{
	expect_error(open(hsm_.config("other"))->create_kek("kek"), ErrorCode::provider_unreachable,
	             {"token 'other' is not present", "'seal'", hsm_.serial_of("seal"), "may not read looks the same"});
	expect_error(
		open(hsm_.config_text("\"serial\":\"ffff\",\"pin_file\":\"" + hsm_.pin_file() + "\""))->create_kek("kek"),
		ErrorCode::provider_unreachable, {"with serial 'ffff'"});
}

TEST_F(Pkcs11Errors, an_ambiguous_label_asks_for_the_serial)
{
	hsm_.add_token("seal");
	expect_error(open(hsm_.config("seal"))->create_kek("kek"), ErrorCode::invalid_argument,
	             {"ambiguous", "\"serial\""});
}

TEST_F(Pkcs11Errors, a_token_that_comes_later_is_found)
{
	const auto first = open(hsm_.config("seal"));
	Result<KekRef> kek = first->create_kek("kek");
	ASSERT_TRUE(kek);
	const auto second = open(hsm_.config("late"));
	EXPECT_FALSE(second->create_kek("kek"));
	hsm_.add_token("late");
	Result<KekRef> other = second->create_kek("kek");
	EXPECT_TRUE(other) << other.error().message;
	const Secret secret(32); // the first provider lost its session when the module was initialised again
	Result<std::vector<WrappedBlob>> blobs = first->wrap(*kek, {&secret, 1}, kAad);
	EXPECT_TRUE(blobs) << blobs.error().message;
}

TEST_F(Pkcs11Errors, wrong_pin_is_tried_once_and_remembered)
{
	const std::string wrong = hsm_.directory().write("wrong", "111111\n");
	const std::string config = hsm_.config_text("\"token\":\"seal\",\"pin_file\":\"" + wrong + "\"");
	expect_error(open(config)->create_kek("kek"), ErrorCode::pin_incorrect,
	             {"token 'seal'", "rejected the PIN", "pin_file"});
	for (int i = 0; i < 20; ++i) // a new provider object, as after a reconnect: the memory is the process's
		expect_error(open(config)->create_kek("kek"), ErrorCode::pin_incorrect, {"not tried again"});
	hsm_.directory().write("wrong", "648219\n"); // corrected: works at once
	Result<KekRef> kek = open(config)->create_kek("kek");
	EXPECT_TRUE(kek) << kek.error().message;
}

TEST_F(Pkcs11Errors, a_wrong_pin_shows_even_while_the_process_is_logged_in)
{
	const auto right = open(hsm_.config("seal"));
	Result<KekRef> kek = right->create_kek("kek");
	ASSERT_TRUE(kek);
	const std::string wrong = hsm_.directory().write("wrong", "222222");
	const auto other = open(hsm_.config_text("\"token\":\"seal\",\"pin_file\":\"" + wrong + "\""));
	EXPECT_FALSE(other->check().at(0).ok);
	expect_error(other->adopt_kek("kek"), ErrorCode::pin_incorrect, {"not tried again"});
	const Secret secret(32);
	Result<std::vector<WrappedBlob>> blobs = right->wrap(*kek, {&secret, 1}, kAad);
	EXPECT_TRUE(blobs) << blobs.error().message;
}

TEST_F(Pkcs11Errors, check_reads_the_pin_anew)
{
	const auto provider = open(hsm_.config("seal"));
	ASSERT_TRUE(provider->check().at(0).ok);
	hsm_.directory().write("pin", "333333");
	const EndpointStatus bad = provider->check().at(0);
	EXPECT_FALSE(bad.ok);
	EXPECT_NE(bad.detail.find("rejected the PIN"), std::string::npos) << bad.detail;
	EXPECT_EQ(bad.detail.find("333333"), std::string::npos);
	hsm_.directory().write("pin", "648219");
	EXPECT_TRUE(provider->check().at(0).ok);
}

TEST_F(Pkcs11Errors, pin_files_must_be_private)
{
	for (unsigned mode : {0644u, 0660u, 0604u}) {
		const std::string file = hsm_.directory().write("open_pin", "648219", mode);
		expect_error(open(hsm_.config_text("\"token\":\"seal\",\"pin_file\":\"" + file + "\""))->create_kek("kek"),
		             ErrorCode::invalid_argument, {file, "permissions", "0600"});
	}
	const std::string group = hsm_.directory().write("group_pin", "648219\r\n", 0640);
	const EndpointStatus row =
		open(hsm_.config_text("\"token\":\"seal\",\"pin_file\":\"" + group + "\""))->check().at(0);
	EXPECT_TRUE(row.ok) << row.detail;
	EXPECT_NE(row.detail.find("readable by its group"), std::string::npos) << row.detail;
	expect_error(open(hsm_.config_text("\"token\":\"seal\",\"pin_file\":\"/nowhere/pin\""))->create_kek("kek"),
	             ErrorCode::io_error, {"/nowhere/pin"});
	const auto directory = open(hsm_.config_text("\"token\":\"seal\",\"pin_file\":\"/tmp\""))->create_kek("kek");
	EXPECT_FALSE(directory);
	const std::string empty = hsm_.directory().write("empty_pin", "\n");
	const auto nothing = open(hsm_.config_text("\"token\":\"seal\",\"pin_file\":\"" + empty + "\""))->create_kek("kek");
	EXPECT_FALSE(nothing);
}

TEST_F(Pkcs11Errors, pin_commands_that_fail_or_hang)
{
	const auto with = [&](const std::string& command) {
		return open(hsm_.config_text("\"token\":\"seal\",\"pin_command\":\"" + command + "\""))->create_kek("kek");
	};
	expect_error(with("exit 3"), ErrorCode::io_error, {"exit code 3"});
	expect_error(with("kill -9 $$"), ErrorCode::io_error, {"signal 9"});
	EXPECT_FALSE(with("true"));
	const auto begin = std::chrono::steady_clock::now();
	expect_error(with("sleep 60; echo 1"), ErrorCode::timeout, {"pin command"});
	EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

TEST_F(Pkcs11Errors, login_without_a_pin)
{
	expect_error(open(hsm_.config_text("\"token\":\"seal\""))->create_kek("kek"), ErrorCode::invalid_argument,
	             {"requires a PIN", "pin_file"});
}

TEST_F(Pkcs11Errors, key_missing_and_replaced)
{
	const auto provider = open(hsm_.config("seal"));
	expect_error(provider->adopt_kek("kek"), ErrorCode::key_missing, {"'kek'", "token 'seal'"});
	Result<KekRef> kek = provider->create_kek("kek");
	ASSERT_TRUE(kek);
	const Secret secret(32);
	hsm_.pkcs11_tool("seal", {"--delete-object", "--type", "secrkey", "--id", kek->id_hex});
	expect_error(provider->wrap(*kek, {&secret, 1}, kAad), ErrorCode::key_missing, {"'kek'", kek->id_hex});
	Result<KekRef> other = provider->create_kek("kek");
	ASSERT_TRUE(other) << other.error().message;
	expect_error(provider->wrap(*kek, {&secret, 1}, kAad), ErrorCode::key_missing, {"of that label with another id"});
}

TEST_F(Pkcs11Errors, a_swapped_kek_under_the_same_label_and_id_does_not_verify)
{
	const auto provider = open(hsm_.config("seal"));
	Result<KekRef> kek = provider->create_kek("kek");
	ASSERT_TRUE(kek);
	const Secret secret(32);
	Result<std::vector<WrappedBlob>> blobs = provider->wrap(*kek, {&secret, 1}, kAad);
	ASSERT_TRUE(blobs);
	hsm_.pkcs11_tool("seal", {"--delete-object", "--type", "secrkey", "--id", kek->id_hex});
	const std::string file = hsm_.directory().write("key", std::string(32, 'x'));
	hsm_.pkcs11_tool("seal", {"--write-object", file, "--type", "secrkey", "--key-type", "AES:32", "--label", "kek",
	                          "--id", kek->id_hex, "--sensitive"});
	expect_error(provider->unwrap(*kek, *blobs, kAad), ErrorCode::authentication_failed, {"'kek'", "does not verify"});
}

TEST_F(Pkcs11Errors, a_label_in_use_is_not_created_again_unless_rotating)
{
	const auto provider = open(hsm_.config("seal"));
	ASSERT_TRUE(provider->create_kek("kek"));
	expect_error(provider->create_kek("kek"), ErrorCode::already_exists, {"'kek'", "create_kek => false"});
	ASSERT_TRUE(provider->create_kek("kek", true));
	expect_error(provider->adopt_kek("kek"), ErrorCode::key_unfit, {"ambiguous"});
}

TEST_F(Pkcs11Errors, unfit_keys_are_not_adopted)
{
	const std::string file = hsm_.directory().write("key", std::string(32, 'x'));
	const std::string half = hsm_.directory().write("half", std::string(16, 'x'));
	hsm_.pkcs11_tool(
		"seal", {"--write-object", file, "--type", "secrkey", "--key-type", "AES:32", "--label", "open", "--id", "01"});
	hsm_.pkcs11_tool("seal", {"--write-object", file, "--type", "secrkey", "--key-type", "AES:32", "--label", "leaves",
	                          "--id", "02", "--sensitive", "--extractable"});
	hsm_.pkcs11_tool("seal", {"--write-object", half, "--type", "secrkey", "--key-type", "AES:16", "--label", "short",
	                          "--id", "03", "--sensitive"});
	ASSERT_TRUE(open(hsm_.config("seal", "\"mechanisms\":[\"aes-cbc-pad-hmac\"]"))->create_kek("kek"));
	const auto provider = open(hsm_.config("seal"));
	expect_error(provider->adopt_kek("open"), ErrorCode::key_unfit, {"'open'", "not sensitive"});
	expect_error(provider->adopt_kek("leaves"), ErrorCode::key_unfit, {"'leaves'", "extractable"});
	expect_error(provider->adopt_kek("short"), ErrorCode::key_unfit, {"256 bits"});
	expect_error(provider->adopt_kek("kek mac"), ErrorCode::key_unfit, {"not an AES key"});
}

TEST_F(Pkcs11Errors, two_configurations_of_one_module_live_side_by_side)
{
	SoftHsm other;
	other.add_token("seal");
	const auto here = open(hsm_.config("seal")), there = open(other.config("seal"));
	Result<KekRef> a = here->create_kek("kek"), b = there->create_kek("kek");
	ASSERT_TRUE(a) << a.error().message;
	ASSERT_TRUE(b) << b.error().message;
	const Secret secret(32);
	for (int i = 0; i < 3; ++i) {
		EXPECT_TRUE(here->wrap(*a, {&secret, 1}, kAad));
		EXPECT_TRUE(there->wrap(*b, {&secret, 1}, kAad));
	}
	expect_error(here->wrap(*b, {&secret, 1}, kAad), ErrorCode::key_missing, {"of that label with another id"});
}

} // namespace
} // namespace seal
