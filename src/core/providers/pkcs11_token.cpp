#include "pkcs11_token.hpp"

#include <algorithm>
#include <pwd.h>
#include <unistd.h>
#include <vector>

namespace seal::pkcs11 {

namespace {

// Fields of a token are padded with blanks; some libraries pad with zero bytes.
template <std::size_t N> std::string trimmed(const unsigned char (&field)[N])
{
	std::string text(reinterpret_cast<const char*>(field), N);
	text.resize(std::min(text.find('\0'), text.size()));
	const std::size_t last = text.find_last_not_of(' ');
	text.resize(last == std::string::npos ? 0 : last + 1);
	return text;
}

bool same(const std::optional<std::string>& wanted, const std::string& have) { return !wanted || *wanted == have; }

bool matches(const TokenSelector& selector, const TokenInfo& token)
{
	return same(selector.label, token.label) && same(selector.serial, token.serial) &&
	       same(selector.manufacturer, token.manufacturer) && same(selector.model, token.model);
}

std::string list_text(const std::vector<TokenInfo>& tokens)
{
	if (tokens.empty())
		return "the module shows no token at all";
	std::string text = "present:";
	for (std::size_t i = 0; i < tokens.size() && i < 8; ++i)
		text += (i ? ", '" : " '") + tokens[i].label + "' (serial " + tokens[i].serial + ")";
	return tokens.size() > 8 ? text + " and more" : text;
}

Error unreachable(const Module& module, const std::string& what, CK_RV rv)
{
	return {ErrorCode::provider_unreachable, "PKCS#11 module \"" + module.path() + "\" " + what + ": " + rv_text(rv),
	        "Check that the device is connected and its service is running."};
}

Result<std::vector<CK_SLOT_ID>> slots_with_token(const Module& module)
{
	for (int attempt = 0; attempt < 3; ++attempt) { // the list may grow between the two calls
		CK_ULONG count = 0;
		CK_RV rv = module.api()->C_GetSlotList(CK_TRUE, nullptr, &count);
		if (rv != CKR_OK)
			return unreachable(module, "does not list its slots", rv);
		std::vector<CK_SLOT_ID> slots(count + 16);
		count = static_cast<CK_ULONG>(slots.size());
		rv = module.api()->C_GetSlotList(CK_TRUE, slots.data(), &count);
		if (rv == CKR_BUFFER_TOO_SMALL)
			continue;
		if (rv != CKR_OK)
			return unreachable(module, "does not list its slots", rv);
		slots.resize(count);
		return slots;
	}
	return unreachable(module, "does not list its slots", CKR_BUFFER_TOO_SMALL);
}

} // namespace

Result<TokenInfo> find_token(const Module& module, const TokenSelector& selector)
{
	Result<std::vector<CK_SLOT_ID>> slots = slots_with_token(module);
	if (!slots)
		return slots.error();
	std::vector<TokenInfo> all, found;
	for (CK_SLOT_ID slot : *slots) {
		CK_TOKEN_INFO info{};
		if (module.api()->C_GetTokenInfo(slot, &info) != CKR_OK || !(info.flags & CKF_TOKEN_INITIALIZED))
			continue;
		TokenInfo token{slot,
		                trimmed(info.label),
		                trimmed(info.serialNumber),
		                trimmed(info.manufacturerID),
		                trimmed(info.model),
		                info.flags};
		if (matches(selector, token))
			found.push_back(token);
		all.push_back(std::move(token));
	}
	if (found.size() == 1)
		return std::move(found[0]);
	if (found.empty())
		return Error(ErrorCode::provider_unreachable,
		             "token " + selector.text() + " is not present in PKCS#11 module \"" + module.path() + "\" (" +
		                 list_text(all) + ")",
		             "Check the token's name and that it is connected; a token whose files or service the operating "
		             "system user " +
		                 user_text() + " may not read looks the same.");
	return Error(ErrorCode::invalid_argument,
	             "token " + selector.text() + " is ambiguous in PKCS#11 module \"" + module.path() + "\" (" +
	                 list_text(all) + ")",
	             "Name it by \"serial\".");
}

std::optional<CK_FLAGS> token_flags(const Module& module, CK_SLOT_ID slot)
{
	CK_TOKEN_INFO info{};
	if (module.api()->C_GetTokenInfo(slot, &info) != CKR_OK)
		return std::nullopt;
	return info.flags;
}

std::string user_text()
{
	char buffer[1024];
	passwd entry{}, *found = nullptr;
	const std::string id = "uid " + std::to_string(geteuid());
	if (getpwuid_r(geteuid(), &entry, buffer, sizeof buffer, &found) == 0 && found)
		return std::string(found->pw_name) + " (" + id + ")";
	return id;
}

} // namespace seal::pkcs11
