#include "seal/agent_protocol.hpp"

#include "keys/json_text.hpp"

namespace seal {

static Error invalid(std::string message)
{
	return {ErrorCode::invalid_argument, std::move(message),
	        "The file is a JSON object: {\"provider name\": {\"member\": value}}; a value of null removes the member."};
}

Result<std::string> merge_overrides(const std::string& provider_name, const std::string& config_json,
                                    const std::string& overrides_json)
{
	if (overrides_json.find_first_not_of(" \t\r\n") == std::string::npos)
		return config_json;
	const std::optional<Json> overrides = json_parse(overrides_json);
	if (!overrides || !overrides->is_object())
		return invalid("the provider overrides are not a JSON object");
	const auto own = overrides->find(provider_name);
	if (own == overrides->end())
		return config_json;
	if (!own->is_object())
		return invalid("the overrides of provider \"" + provider_name + "\" are not a JSON object");
	std::optional<Json> config = json_parse(config_json);
	if (!config || !config->is_object())
		return Error{ErrorCode::invalid_argument,
		             "the configuration of provider \"" + provider_name + "\" is not a JSON object"};
	for (const auto& [name, value] : own->items()) {
		if (value.is_null())
			config->erase(name);
		else
			(*config)[name] = value;
	}
	return json_print(*config);
}

} // namespace seal
