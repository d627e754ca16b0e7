#include "seal/temp_path.hpp"

namespace seal {

namespace {

constexpr std::string_view kTempFolder = "pgsql_tmp/";

// Takes `prefix` from the front.
bool take(std::string_view& text, std::string_view prefix) noexcept
{
	if (text.substr(0, prefix.size()) != prefix)
		return false;
	text.remove_prefix(prefix.size());
	return true;
}

// Takes a folder's name and the slash after it.
bool take_folder(std::string_view& text) noexcept
{
	const std::size_t slash = text.find('/');
	if (slash == std::string_view::npos || slash == 0)
		return false;
	text.remove_prefix(slash + 1);
	return true;
}

bool ends_with(std::string_view text, std::string_view end) noexcept
{
	return text.size() > end.size() && text.substr(text.size() - end.size()) == end;
}

TempPathKind kind_of(std::string_view path) noexcept
{
	if (take(path, "base/"))
		return take(path, kTempFolder) && !path.empty() ? TempPathKind::temporary : TempPathKind::other;
	if (take(path, "pg_tblspc/"))
		return take_folder(path) && take_folder(path) && take(path, kTempFolder) && !path.empty()
		           ? TempPathKind::temporary
		           : TempPathKind::other;
	if (take(path, "pg_replslot/"))
		return take_folder(path) && ends_with(path, ".spill") ? TempPathKind::spill : TempPathKind::other;
	if (take(path, "pg_notify/"))
		return path.empty() ? TempPathKind::other : TempPathKind::notify;
	return TempPathKind::other;
}

} // namespace

TempPath classify_temp_path(std::string_view path, std::string_view data_directory) noexcept
{
	if (!data_directory.empty() && path.size() > data_directory.size() && path[data_directory.size()] == '/' &&
	    path.substr(0, data_directory.size()) == data_directory)
		path.remove_prefix(data_directory.size() + 1);
	while (take(path, "./")) {}
	return {kind_of(path), path};
}

} // namespace seal
