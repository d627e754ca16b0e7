// JSON from text and back without exceptions for malformed input: what arrives here comes from files, WAL and
// configuration.
#pragma once

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace seal {

using Json = nlohmann::json;

inline constexpr int kMaxJsonDepth = 32; // deeper documents are refused: printing one recurses

std::optional<Json> json_parse(std::string_view text); // nothing: malformed, not UTF-8, or too deep
std::string json_print(const Json& value);             // one line; bytes that are not UTF-8 become U+FFFD
bool is_utf8(const std::string& text);

} // namespace seal
