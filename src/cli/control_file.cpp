#include "control_file.hpp"

#include "file_text.hpp"

#include "seal/page_format.hpp"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

namespace seal::cli {

namespace {

// Offsets in pg_control version 1300, native byte order.
constexpr std::size_t kVersionAt = 8, kCatalogVersionAt = 12, kStateAt = 16, kPageSizeAt = 216, kSegmentAt = 220,
					  kChecksumVersionAt = 252, kCrcAt = 288;
constexpr std::uint32_t kVersion = 1300;
constexpr std::uint32_t kShutDown = 1, kShutDownInRecovery = 2;

std::uint32_t u32_at(const std::string& bytes, std::size_t at)
{
	std::uint32_t value = 0;
	std::memcpy(&value, bytes.data() + at, sizeof value);
	return value;
}

// CRC-32C (Castagnoli), reflected, as in RFC 3720 appendix B.4.
std::uint32_t crc32c(const char* bytes, std::size_t size)
{
	std::uint32_t crc = ~0u;
	for (std::size_t i = 0; i < size; ++i) {
		crc ^= static_cast<unsigned char>(bytes[i]);
		for (int bit = 0; bit < 8; ++bit)
			crc = (crc >> 1) ^ (0x82f63b78u & (0u - (crc & 1)));
	}
	return ~crc;
}

} // namespace

Result<ControlFile> read_control_file(const std::string& data_directory)
{
	const std::string path = data_directory + "/global/pg_control";
	Result<std::string> text = read_text_file(path);
	if (!text)
		return Error(text.error().code, text.error().message, "Give the data directory of a PostgreSQL server.");
	if (text->size() < kCrcAt + 4)
		return Error(ErrorCode::corrupt, "\"" + path + "\" is too short");
	if (u32_at(*text, kVersionAt) != kVersion)
		return Error(ErrorCode::unsupported, "\"" + path + "\" has version " +
		                                         std::to_string(u32_at(*text, kVersionAt)) +
		                                         ", which this command does not know");
	if (crc32c(text->data(), kCrcAt) != u32_at(*text, kCrcAt))
		return Error(ErrorCode::corrupt, "\"" + path + "\" has a wrong checksum");
	if (u32_at(*text, kPageSizeAt) != kPageSize)
		return Error(ErrorCode::unsupported, "the server's page size is not 8192 bytes");
	ControlFile control;
	control.catalog_version = u32_at(*text, kCatalogVersionAt);
	control.segment_blocks = u32_at(*text, kSegmentAt);
	control.checksums = u32_at(*text, kChecksumVersionAt) != 0;
	const std::uint32_t state = u32_at(*text, kStateAt);
	control.clean = state == kShutDown || state == kShutDownInRecovery;
	return control;
}

Result<std::uint64_t> read_system_identifier(const std::string& data_directory)
{
	const std::string path = data_directory + "/global/pg_control";
	Result<std::string> text = read_text_file(path);
	if (!text)
		return Error(text.error().code, text.error().message, "Give the data directory of a PostgreSQL server.");
	std::uint64_t identifier = 0;
	if (text->size() >= sizeof identifier)
		std::memcpy(&identifier, text->data(), sizeof identifier);
	if (identifier == 0)
		return Error(ErrorCode::corrupt, "\"" + path + "\" holds no system identifier");
	return identifier;
}

bool server_is_running(const std::string& data_directory)
{
	Result<std::string> text = read_text_file(data_directory + "/postmaster.pid");
	if (!text)
		return false;
	const long pid = std::strtol(text->c_str(), nullptr, 10); // negative in single-user mode
	return pid != 0 && (kill(static_cast<pid_t>(std::labs(pid)), 0) == 0 || errno == EPERM);
}

} // namespace seal::cli
