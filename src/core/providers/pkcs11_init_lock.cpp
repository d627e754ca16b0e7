#include "pkcs11_init_lock.hpp"

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace seal::pkcs11 {

namespace {

// FNV-1a: a name for a file, no secret and no defence against anybody.
std::uint64_t name_hash(const std::string& text) noexcept
{
	std::uint64_t hash = 0xcbf29ce484222325u;
	for (char c : text)
		hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
	return hash;
}

// A directory of our own below /tmp: nobody else can put a link or a lock of theirs in our way there. -1 if it is not
// ours.
int open_directory()
{
	char path[64];
	std::snprintf(path, sizeof path, "/tmp/pg_seal-%u", static_cast<unsigned>(geteuid()));
	if (mkdir(path, 0700) != 0 && errno != EEXIST)
		return -1;
	const int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	if (fd >= 0 && (fstat(fd, &st) != 0 || st.st_uid != geteuid() || (st.st_mode & 0022) != 0)) {
		close(fd);
		return -1;
	}
	return fd;
}

} // namespace

InitLock::InitLock(const std::string& module_path, Deadline deadline)
{
	const int directory = open_directory();
	if (directory < 0)
		return;
	char name[48];
	std::snprintf(name, sizeof name, "module-%016llx.lock", static_cast<unsigned long long>(name_hash(module_path)));
	fd_ = openat(directory, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	close(directory);
	while (fd_ >= 0 && !held_) {
		held_ = flock(fd_, LOCK_EX | LOCK_NB) == 0;
		if (held_ || (errno != EWOULDBLOCK && errno != EINTR) || std::chrono::steady_clock::now() >= deadline)
			break;
		poll(nullptr, 0, 5);
	}
}

InitLock::~InitLock()
{
	if (fd_ >= 0)
		close(fd_); // closing releases the lock
}

} // namespace seal::pkcs11
