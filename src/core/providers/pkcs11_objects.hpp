// Secret-key objects in a token: templates, searching, reading attributes. No mechanism knowledge.
#pragma once

#include "pkcs11_api.hpp"

#include "seal/bytes.hpp"

#include <deque>
#include <optional>
#include <string>
#include <vector>

namespace seal::pkcs11 {

// A call's surroundings. `function` is set before each Cryptoki call, so that an error can name it.
struct Call {
	CK_FUNCTION_LIST* api;
	CK_SESSION_HANDLE session;
	const char* function = "";
};

// An attribute list that owns its values.
class Template {
public:
	Template() = default;
	Template(Template&&) = default; // moving keeps the addresses of the values; copying would not
	Template(const Template&) = delete;
	Template& operator=(const Template&) = delete;
	Template& flag(CK_ATTRIBUTE_TYPE type, bool value);
	Template& number(CK_ATTRIBUTE_TYPE type, CK_ULONG value);
	Template& text(CK_ATTRIBUTE_TYPE type, const std::string& value);
	Template& bytes(CK_ATTRIBUTE_TYPE type, ByteView value); // refers to the caller's bytes: nothing is copied
	CK_ATTRIBUTE* data() noexcept { return list_.data(); }
	CK_ULONG size() const noexcept { return static_cast<CK_ULONG>(list_.size()); }

private:
	std::vector<CK_ATTRIBUTE> list_;
	std::deque<CK_BBOOL> flags_; // deques: addresses stay
	std::deque<CK_ULONG> numbers_;
	std::deque<std::string> texts_;
};

// What a key says about itself; a flag that the token does not report is absent.
struct KeyFacts {
	std::optional<CK_ULONG> key_type, value_len;
	std::optional<bool> on_token, sensitive, always_sensitive, extractable, never_extractable, local;
	std::optional<bool> encrypt, decrypt, wrap, unwrap;
	std::string label;
	Bytes id;
};

CK_RV find_objects(Call& call, Template& search, std::vector<CK_OBJECT_HANDLE>& out);
CK_RV read_facts(Call& call, CK_OBJECT_HANDLE key, KeyFacts& out);

} // namespace seal::pkcs11
