#include "file_text.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace seal::cli {

Result<std::string> read_text_file(const std::string& path)
{
	constexpr std::size_t kMost = std::size_t{64} << 20;
	const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"), std::fclose);
	if (!file)
		return Error(errno == ENOENT ? ErrorCode::not_found : ErrorCode::io_error,
		             "could not open \"" + path + "\": " + std::strerror(errno));
	std::string text;
	char buffer[65536];
	std::size_t n = 0;
	while ((n = std::fread(buffer, 1, sizeof buffer, file.get())) > 0) {
		text.append(buffer, n);
		if (text.size() > kMost)
			return Error(ErrorCode::io_error, "file \"" + path + "\" is too large");
	}
	if (std::ferror(file.get()))
		return Error(ErrorCode::io_error, "could not read \"" + path + "\": " + std::strerror(errno));
	return text;
}

} // namespace seal::cli
