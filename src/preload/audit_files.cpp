#include "audit_files.hpp"

#include "preload.hpp"

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace seal::preload {

bool is_own_audit_path(const char* path) noexcept
{
	constexpr char kAudit[] = "/pg_seal/audit";
	const char* found = std::strstr(path, kAudit);
	if (!found || keys.data_directory()[0] == '\0')
		return false;
	const char* behind = found + sizeof kAudit - 1;
	if (*behind != '\0' && *behind != '/')
		return false;
	char front[PATH_MAX], resolved[PATH_MAX];
	const int size = std::snprintf(front, sizeof front, "%.*s", static_cast<int>(found - path), path);
	return size > 0 && size < static_cast<int>(sizeof front) && realpath(front, resolved) != nullptr &&
	       std::strcmp(resolved, keys.data_directory()) == 0;
}

} // namespace seal::preload
