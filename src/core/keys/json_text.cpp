#include "json_text.hpp"

namespace seal {

std::optional<Json> json_parse(std::string_view text)
{
	bool too_deep = false;
	const Json::parser_callback_t watch_depth = [&too_deep](int depth, Json::parse_event_t, Json&) {
		too_deep = too_deep || depth > kMaxJsonDepth;
		return !too_deep; // drops the rest: what is too deep is never built
	};
	Json value = Json::parse(text.begin(), text.end(), watch_depth, false);
	if (too_deep || value.is_discarded())
		return std::nullopt;
	return value;
}

std::string json_print(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

bool is_utf8(const std::string& text)
{
	try {
		(void) Json(text).dump();
		return true;
	} catch (const Json::exception&) {
		return false;
	}
}

} // namespace seal
