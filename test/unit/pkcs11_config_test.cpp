// A provider's definition is checked before any device is touched; what is refused is named, what may be secret is
// not shown.
#include "providers/pkcs11_config.hpp"
#include "providers/pkcs11_uri.hpp"

#include "seal/provider.hpp"

#include <gtest/gtest.h>

namespace seal {
namespace {

std::string refusal(const std::string& config)
{
	const Status status = validate_provider_config("pkcs11", config);
	return status ? "accepted" : status.error().message + " | " + status.error().hint;
}

void expect_refused(const std::string& config, const std::string& part)
{
	const std::string text = refusal(config);
	EXPECT_NE(text, "accepted") << config;
	EXPECT_NE(text.find(part), std::string::npos) << text;
}

TEST(Pkcs11Config, accepts_the_documented_forms)
{
	EXPECT_EQ(refusal(R"({"module":"/m.so","token":"seal","pin_file":"/pin"})"), "accepted");
	EXPECT_EQ(refusal(R"({"module":"/m.so","serial":"12","pin_command":"get-pin","environment":{"A":"b"}})"),
	          "accepted");
	EXPECT_EQ(refusal(R"({"uri":"pkcs11:token=seal?module-path=/m.so&pin-source=file:/pin"})"), "accepted");
	EXPECT_EQ(
		refusal(R"({"module":"/m.so","uri":"pkcs11:serial=1;manufacturer=A;model=B;type=secret-key","pin_file":"/p"})"),
		"accepted");
	EXPECT_EQ(refusal(R"({"module":"/m.so","token":"t","mechanisms":["aes-key-wrap","aes-gcm"]})"), "accepted");
}

TEST(Pkcs11Config, names_what_it_refuses)
{
	expect_refused("nonsense", "not a JSON object");
	expect_refused("[]", "not a JSON object");
	expect_refused(R"({"token":"t"})", "names no module");
	expect_refused(R"({"module":"m.so","token":"t"})", "absolute");
	expect_refused(R"({"module":"/m.so"})", "names no token");
	expect_refused(R"({"module":"/m.so","token":"t","colour":"red"})", "'colour'");
	expect_refused(R"({"module":"/m.so","token":"t","pin_file":"/a","pin_command":"b"})", "both");
	expect_refused(R"({"module":"/m.so","token":"t","pin_file":"a"})", "absolute");
	expect_refused(R"({"module":"/m.so","token":7})", "'token'");
	expect_refused(R"({"module":"/m.so","token":""})", "'token'");
	expect_refused(R"({"module":"/m.so","token":"t","environment":[]})", "'environment'");
	expect_refused(R"({"module":"/m.so","token":"t","environment":{"A=B":"c"}})", "'environment'");
	expect_refused(R"({"module":"/m.so","token":"t","environment":{"LD_PRELOAD":"c"}})", "LD_PRELOAD");
	expect_refused(R"({"module":"/m.so","token":"t","mechanisms":["rot13"]})", "unknown mechanism");
	expect_refused(R"({"module":"/m.so","token":"t","uri":"pkcs11:token=t"})", "once");
	expect_refused(R"({"module":"/m.so","uri":"pkcs11:token=t?module-path=/n.so"})", "twice");
	expect_refused(R"({"module":"/m.so","pin_file":"/p","uri":"pkcs11:token=t?pin-source=file:/q"})", "twice");
	const Status kind = validate_provider_config("abacus", "{}");
	ASSERT_FALSE(kind);
	EXPECT_NE(kind.error().message.find("'abacus'"), std::string::npos);
}

TEST(Pkcs11Config, never_repeats_a_pin)
{
	for (const char* config : {R"({"module":"/m.so","token":"t","pin":"hunter2"})",
	                           R"({"module":"/m.so","uri":"pkcs11:token=t?pin-value=hunter2"})",
	                           R"({"module":"/m.so","uri":"pkcs11:token=t;pin-value=hunter2"})"}) {
		const std::string text = refusal(config);
		EXPECT_NE(text, "accepted");
		EXPECT_EQ(text.find("hunter2"), std::string::npos) << text;
		EXPECT_NE(text.find("pin_file"), std::string::npos) << text;
	}
}

TEST(Pkcs11Uri, decodes_and_refuses)
{
	Result<pkcs11::Uri> uri = pkcs11::parse_uri(
		"pkcs11:token=My%20token%3b;serial=0A;object=k%c3%a9k?pin-source=file:///run/pin&module-path=/a/b.so");
	ASSERT_TRUE(uri) << uri.error().message;
	EXPECT_EQ(uri->token, "My token;");
	EXPECT_EQ(uri->serial, "0A");
	EXPECT_EQ(uri->object, "k\xc3\xa9k");
	EXPECT_EQ(uri->pin_file, "/run/pin");
	EXPECT_EQ(uri->module_path, "/a/b.so");
	for (const char* bad : {"",
	                        "pkcs11",
	                        "pkcs12:token=a",
	                        "pkcs11:token",
	                        "pkcs11:=a",
	                        "pkcs11:token=",
	                        "pkcs11:token=a;token=b",
	                        "pkcs11:token=a;",
	                        "pkcs11:token=%4",
	                        "pkcs11:token=%zz",
	                        "pkcs11:token=%00",
	                        "pkcs11:token=a b",
	                        "pkcs11:token=a#b",
	                        "pkcs11:slot-id=1",
	                        "pkcs11:id=%01",
	                        "pkcs11:type=private",
	                        "pkcs11:colour=red",
	                        "pkcs11:token=a?pin-source=|cmd",
	                        "pkcs11:token=a?pin-source=pin",
	                        "pkcs11:token=a?module-name=x",
	                        "pkcs11:token=a?x=y",
	                        "pkcs11:token=a?module-path=/a&module-path=/b",
	                        "pkcs11:module-path=/a",
	                        "pkcs11:token=a?module-path=/a?b#"})
		EXPECT_FALSE(pkcs11::parse_uri(bad)) << bad;
	EXPECT_TRUE(pkcs11::parse_uri("pkcs11:"));
}

} // namespace
} // namespace seal
