#include "seal/bytes.hpp"
#include "seal/secret.hpp"

#include <openssl/crypto.h>

namespace seal {

std::string to_hex(ByteView bytes)
{
	static constexpr char kDigits[] = "0123456789abcdef";
	std::string text;
	text.reserve(bytes.size() * 2);
	for (const std::uint8_t b : bytes) {
		text.push_back(kDigits[b >> 4]);
		text.push_back(kDigits[b & 0x0F]);
	}
	return text;
}

static int hex_value(char c) noexcept
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool from_hex(std::string_view text, Bytes& out)
{
	out.clear();
	if (text.size() % 2 != 0)
		return false;
	out.reserve(text.size() / 2);
	for (std::size_t i = 0; i < text.size(); i += 2) {
		const int high = hex_value(text[i]);
		const int low = hex_value(text[i + 1]);
		if (high < 0 || low < 0) {
			out.clear();
			return false;
		}
		out.push_back(static_cast<std::uint8_t>(high << 4 | low));
	}
	return true;
}

void wipe(void* bytes, std::size_t size) noexcept
{
	if (size != 0)
		OPENSSL_cleanse(bytes, size);
}

} // namespace seal
