// The machine around the server: memory locking, core dumps, swap.
#include "doctor.hpp"
#include "file_text.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace seal::cli {

namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kWantedLock = std::uint64_t{4} << 20; // the key mapping with room to spare

std::string read_line(const std::string& path)
{
	std::ifstream file(path);
	std::string line;
	std::getline(file, line);
	return line;
}

// Locked memory of the running server, else of this process: the soft limit in bytes; infinity is the largest number.
std::uint64_t memlock_limit(const std::string& data_directory, std::string& whose)
{
	const std::string pid = data_directory.empty() ? "" : read_line(data_directory + "/postmaster.pid");
	std::ifstream limits("/proc/" + pid + "/limits");
	std::string line;
	constexpr char kName[] = "Max locked memory";
	while (!pid.empty() && std::getline(limits, line))
		if (line.rfind(kName, 0) == 0) {
			whose = "the running server";
			std::istringstream rest(line.substr(sizeof kName - 1));
			std::string soft;
			rest >> soft;
			return soft == "unlimited" ? ~std::uint64_t{0} : std::strtoull(soft.c_str(), nullptr, 10);
		}
	whose = "this shell (the server's own may differ: systemd's LimitMEMLOCK)";
	rlimit limit{};
	if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0)
		return 0;
	return limit.rlim_cur == RLIM_INFINITY ? ~std::uint64_t{0} : limit.rlim_cur;
}

// A block device whose data is encrypted, or memory: dm-crypt here or below (LVM on LUKS), zram.
bool protected_device(const fs::path& sys_device, int depth = 0)
{
	std::error_code error;
	const fs::path device = fs::canonical(sys_device, error);
	if (error || depth > 8)
		return false;
	if (device.filename().string().rfind("zram", 0) == 0 || read_line(device / "dm/uuid").rfind("CRYPT-", 0) == 0)
		return true;
	bool any = false;
	for (const auto& below : fs::directory_iterator(device / "slaves", error)) {
		if (!protected_device(below.path(), depth + 1))
			return false;
		any = true;
	}
	return any;
}

std::string sys_path(dev_t device)
{
	return "/sys/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device));
}

} // namespace

void Doctor::check_memory_limit()
{
	std::string whose;
	const std::uint64_t limit = memlock_limit(options_.data_directory, whose);
	if (limit >= kWantedLock)
		ok("memory", "memory that may be locked suffices for the keys (limit of " + whose + ")");
	else
		warn("memory", "only " + std::to_string(limit / 1024) + " kB of memory may be locked (limit of " + whose + ")",
		     "Raise RLIMIT_MEMLOCK to 4 MB or more (LimitMEMLOCK= in the service), or the keys can be swapped out.");
}

void Doctor::check_core_dumps()
{
	constexpr char kArea[] = "core dumps";
	const std::string pattern = read_line("/proc/sys/kernel/core_pattern");
	if (pattern.empty()) {
		warn(kArea, "could not read /proc/sys/kernel/core_pattern", "Check how this machine handles core dumps.");
		return;
	}
	if (pattern[0] == '|') // the size limit does not hold for a pipe
		warn(kArea, "core dumps are handed to a program: " + pattern,
		     "Key mappings are excluded from dumps, cipher states of backends are not: set pg_seal.disable_core_dumps "
		     "= on.");
	else
		ok(kArea, "core dumps go to files named \"" + pattern + "\"; the key mapping is never in them");
}

void Doctor::check_swap()
{
	constexpr char kArea[] = "swap";
	std::ifstream swaps("/proc/swaps");
	std::string line;
	std::getline(swaps, line); // the heading
	bool any = false, open = false;
	while (std::getline(swaps, line)) {
		std::istringstream words(line);
		std::string name, type;
		words >> name >> type;
		any = true;
		struct stat st {};
		const bool known = stat(name.c_str(), &st) == 0;
		if (known && protected_device(sys_path(S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev)))
			continue;
		open = true;
		warn(kArea, "swap on " + name + " is not encrypted, as far as can be seen",
		     "Encrypt it (dm-crypt with a random key) or switch it off: shared buffers hold pages in clear.");
	}
	if (!any)
		ok(kArea, "no swap is in use");
	else if (!open)
		ok(kArea, "swap is encrypted or in memory");
}

} // namespace seal::cli
