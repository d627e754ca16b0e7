// Views of bytes, and the plain (non-secret) byte string.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace seal {

using ByteView = std::span<const std::uint8_t>;
using MutableBytes = std::span<std::uint8_t>;
using Bytes = std::vector<std::uint8_t>;

inline ByteView as_bytes(std::string_view text) noexcept
{
	return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

std::string to_hex(ByteView bytes);               // lowercase, for identifiers; never call it on a secret
bool from_hex(std::string_view text, Bytes& out); // false on an odd length or a foreign character

} // namespace seal
