#include "pkcs11_config.hpp"

#include "pkcs11_uri.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace seal::pkcs11 {

namespace {

using nlohmann::json;

Error bad(std::string message, std::string hint = {})
{
	return {ErrorCode::invalid_argument, "the pkcs11 provider's configuration " + std::move(message), std::move(hint)};
}

constexpr WrapMechanism kPreference[] = {WrapMechanism::pkcs11_aes_gcm, WrapMechanism::pkcs11_aes_kw,
                                         WrapMechanism::pkcs11_cbc_hmac};

constexpr char kKnown[] =
	"Known members are module, token, serial, uri, pin_file, pin_command, environment and mechanisms.";

bool looks_like_pin(std::string_view name)
{
	return name == "pin" || name == "user_pin" || name == "user-pin" || name == "password" || name == "so_pin" ||
	       name == "pin-value" || name == "pin_value";
}

Result<std::string> text_member(const std::string& name, const json& value)
{
	if (!value.is_string())
		return bad("has a member '" + name + "' that is not a string");
	const std::string& text = value.get_ref<const std::string&>();
	if (text.empty())
		return bad("has an empty member '" + name + "'");
	if (text.find('\0') != std::string::npos)
		return bad("has a zero byte in the member '" + name + "'");
	return text;
}

Status read_environment(const json& value, Environment& out)
{
	if (!value.is_object())
		return bad("has a member 'environment' that is not an object of names and strings");
	for (const auto& [name, text] : value.items()) {
		if (name.empty() || name.find_first_of(std::string_view("=\0", 2)) != std::string::npos)
			return bad("has an impossible variable name in 'environment'");
		if (!text.is_string() || text.get_ref<const std::string&>().find('\0') != std::string::npos)
			return bad("has a value for '" + name + "' in 'environment' that is not a string");
		if (name.rfind("LD_", 0) == 0)
			return bad("sets '" + name + "' in 'environment', which has no effect on a running process");
		out[name] = text.get<std::string>();
	}
	return ok_status();
}

Status read_mechanisms(const json& value, std::vector<WrapMechanism>& out)
{
	if (!value.is_array() || value.empty())
		return bad("has a member 'mechanisms' that is not a list of names");
	out.clear();
	for (const json& entry : value) {
		const std::string name = entry.is_string() ? entry.get<std::string>() : "";
		const auto* found = std::find_if(std::begin(kPreference), std::end(kPreference),
		                                 [&](WrapMechanism m) { return name == mechanism_name(m); });
		if (found == std::end(kPreference))
			return bad("names an unknown mechanism", "Known are aes-gcm, aes-key-wrap and aes-cbc-pad-hmac.");
		if (std::find(out.begin(), out.end(), *found) == out.end())
			out.push_back(*found);
	}
	return ok_status();
}

Status apply_uri(const std::string& text, Config& config)
{
	Result<Uri> parsed = parse_uri(text);
	if (!parsed)
		return parsed.error();
	const Uri& uri = *parsed;
	if (config.token.label || config.token.serial)
		return bad("has 'uri' beside 'token' or 'serial'", "Name the token once.");
	if (!uri.token && !uri.serial)
		return bad("has a 'uri' without 'token' or 'serial'");
	config.token = {uri.token, uri.serial, uri.manufacturer, uri.model};
	config.only_label = uri.object;
	if (uri.module_path) {
		if (!config.module_path.empty())
			return bad("names the module twice, in 'module' and in 'uri'");
		config.module_path = *uri.module_path;
	}
	if (uri.pin_file) {
		if (config.pin.configured())
			return bad("names the PIN's source twice, in 'uri' and in 'pin_file' or 'pin_command'");
		config.pin.file = *uri.pin_file;
	}
	return ok_status();
}

Status check_whole(const Config& config)
{
	if (config.module_path.empty())
		return bad("names no module", "Set \"module\" to the path of the token's PKCS#11 library.");
	if (config.module_path[0] != '/')
		return bad("has a module that is not an absolute path");
	if (!config.token.label && !config.token.serial)
		return bad("names no token", "Set \"token\" to its label, \"serial\" to its serial number, or \"uri\".");
	if (!config.pin.file.empty() && !config.pin.command.empty())
		return bad("has both 'pin_file' and 'pin_command'", "Keep one of them.");
	if (!config.pin.file.empty() && config.pin.file[0] != '/')
		return bad("has a pin_file that is not an absolute path");
	return ok_status();
}

} // namespace

const char* mechanism_name(WrapMechanism mechanism) noexcept
{
	switch (mechanism) {
	case WrapMechanism::pkcs11_aes_gcm: return "aes-gcm";
	case WrapMechanism::pkcs11_aes_kw: return "aes-key-wrap";
	case WrapMechanism::pkcs11_cbc_hmac: return "aes-cbc-pad-hmac";
	default: return "none";
	}
}

std::string TokenSelector::text() const
{
	std::string out;
	if (label)
		out = "'" + *label + "'";
	if (serial)
		out += (out.empty() ? "with serial '" : " with serial '") + *serial + "'";
	return out;
}

Result<Config> parse_config(const std::string& json_text)
{
	const json document = json::parse(json_text, nullptr, false);
	if (!document.is_object())
		return bad("is not a JSON object");
	Config config;
	config.mechanisms.assign(std::begin(kPreference), std::end(kPreference));
	std::string uri;
	const std::map<std::string, std::string*> texts = {{"module", &config.module_path},
	                                                   {"uri", &uri},
	                                                   {"pin_file", &config.pin.file},
	                                                   {"pin_command", &config.pin.command}};
	for (const auto& [name, value] : document.items()) {
		Status status = ok_status();
		if (const auto target = texts.find(name); target != texts.end() || name == "token" || name == "serial") {
			Result<std::string> text = text_member(name, value);
			if (!text)
				return text.error();
			if (target != texts.end())
				*target->second = *text;
			else
				(name == "token" ? config.token.label : config.token.serial) = *text;
		} else if (name == "environment") {
			status = read_environment(value, config.environment);
		} else if (name == "mechanisms") {
			status = read_mechanisms(value, config.mechanisms);
		} else {
			return bad("has an unknown member '" + name + "'",
			           looks_like_pin(name)
			               ? "A PIN never goes into a configuration: name a file with \"pin_file\" or a "
			                 "command with \"pin_command\"."
			               : kKnown);
		}
		if (!status)
			return status.error();
	}
	if (!uri.empty()) {
		Status status = apply_uri(uri, config);
		if (!status)
			return status.error();
	}
	Status status = check_whole(config);
	if (!status)
		return status.error();
	return config;
}

} // namespace seal::pkcs11
