#include "pkcs11_uri.hpp"

#include <set>

namespace seal::pkcs11 {

namespace {

Error bad(std::string message, std::string hint = {})
{
	return {ErrorCode::invalid_argument, "the PKCS#11 URI " + std::move(message), std::move(hint)};
}

int hex_digit(char c) noexcept
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

// RFC 7512 2.3: pk11-res-avail (":" "[" "]" "@" "!" "$" "'" "(" ")" "*" "+" "," "="), "&" in the path, "/" "?" "|" in
// the query.
bool allowed(char c, bool query) noexcept
{
	if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
		return true;
	const std::string_view marks = query ? "-._~:[]@!$'()*+,=/?|" : "-._~:[]@!$'()*+,=&";
	return marks.find(c) != std::string_view::npos;
}

Result<std::string> decode(std::string_view name, std::string_view text, bool query)
{
	std::string out;
	for (std::size_t i = 0; i < text.size(); ++i) {
		if (text[i] != '%') {
			if (!allowed(text[i], query))
				return bad("has a character in '" + std::string(name) + "' that must be percent-encoded");
			out += text[i];
			continue;
		}
		const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
		const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
		if (high < 0 || low < 0)
			return bad("has a broken percent-encoding in '" + std::string(name) + "'");
		const char c = static_cast<char>(high * 16 + low);
		if (c == '\0')
			return bad("has a zero byte in '" + std::string(name) + "'");
		out += c;
		i += 2;
	}
	if (out.empty())
		return bad("has an empty '" + std::string(name) + "'");
	return out;
}

Result<std::string> file_of_pin_source(const std::string& source)
{
	std::string_view path = source;
	if (path.substr(0, 5) == "file:") {
		path.remove_prefix(5);
		if (path.substr(0, 2) == "//") { // file:///path, the empty host
			path.remove_prefix(2);
		}
	}
	if (path.empty() || path[0] != '/')
		return bad("has a 'pin-source' that is not the absolute path of a file",
		           "Write pin-source=file:/path, or leave it out and set \"pin_file\" or \"pin_command\".");
	return std::string(path);
}

struct Parser {
	Uri uri;
	std::set<std::string, std::less<>> seen;

	Status attribute(std::string_view piece, bool query)
	{
		const std::size_t equals = piece.find('=');
		if (equals == 0 || equals == std::string_view::npos)
			return bad("has a part that is not of the form name=value");
		const std::string name(piece.substr(0, equals));
		for (char c : name)
			if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_'))
				return bad("has an attribute name with an impossible character");
		if (!seen.insert(name).second)
			return bad("names '" + name + "' twice");
		if (name == "pin-value")
			return bad("must not hold a PIN ('pin-value')",
			           "Put the PIN into a file that only the server's user can read and name it with \"pin_file\".");
		Result<std::string> value = decode(name, piece.substr(equals + 1), query);
		if (!value)
			return value.error();
		return query ? query_attribute(name, *value) : path_attribute(name, *value);
	}

	Status path_attribute(const std::string& name, const std::string& value)
	{
		if (name == "token")
			uri.token = value;
		else if (name == "serial")
			uri.serial = value;
		else if (name == "manufacturer")
			uri.manufacturer = value;
		else if (name == "model")
			uri.model = value;
		else if (name == "object")
			uri.object = value;
		else if (name == "type") {
			if (value != "secret-key")
				return bad("has a 'type' other than secret-key",
				           "A key-encryption key is an AES key: leave 'type' out.");
		} else if (name.substr(0, 5) == "slot-")
			return bad("names a slot ('" + name + "'), which is not supported",
			           "Slot numbers change when a token is initialised: name the token by 'token' or 'serial'.");
		else if (name == "id")
			return bad("names a key by 'id', which is not supported", "Name the key in create_keyring() by its label.");
		else
			return bad("has an attribute '" + name + "' that is not supported");
		return ok_status();
	}

	Status query_attribute(const std::string& name, const std::string& value)
	{
		if (name == "module-path") {
			uri.module_path = value;
			return ok_status();
		}
		if (name == "pin-source") {
			Result<std::string> file = file_of_pin_source(value);
			if (!file)
				return file.error();
			uri.pin_file = *file;
			return ok_status();
		}
		return bad("has an attribute '" + name + "' that is not supported",
		           name == "module-name" ? "Give the module's whole path as module-path." : "");
	}

	Status list(std::string_view part, char separator, bool query)
	{
		while (!part.empty()) {
			const std::size_t end = part.find(separator);
			Status status = attribute(part.substr(0, end), query);
			if (!status)
				return status;
			if (end == std::string_view::npos)
				break;
			part.remove_prefix(end + 1);
			if (part.empty())
				return bad("ends with a separator");
		}
		return ok_status();
	}
};

} // namespace

Result<Uri> parse_uri(std::string_view text)
{
	constexpr std::string_view kScheme = "pkcs11:";
	if (text.substr(0, kScheme.size()) != kScheme)
		return bad("does not begin with 'pkcs11:'");
	text.remove_prefix(kScheme.size());
	const std::size_t question = text.find('?');
	Parser parser;
	Status status = parser.list(text.substr(0, question), ';', false);
	if (status && question != std::string_view::npos)
		status = parser.list(text.substr(question + 1), '&', true);
	if (!status)
		return status.error();
	return std::move(parser.uri);
}

} // namespace seal::pkcs11
