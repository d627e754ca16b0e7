#include "parcel_keys.hpp"

#include "preload.hpp"
#include "real_calls.hpp"

#include "seal/secret.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

namespace seal::preload {

namespace {

struct Parcel {
	WalParcelHeader header;
	WalParcelKey keys[kWalGenerations];
};
constexpr std::size_t kMemoryPage = 4096;
constexpr std::size_t kParcelMemory = (sizeof(Parcel) + kMemoryPage - 1) / kMemoryPage * kMemoryPage;
union ParcelPages {
	std::uint8_t bytes[kParcelMemory];
	Parcel parcel;
};
alignas(kMemoryPage) constinit ParcelPages pages{};

} // namespace

bool forbid_dumps() noexcept { return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0; }

const char* ParcelKeys::take(int fd) noexcept
{
	struct stat file;
	if (fstat(fd, &file) != 0 || file.st_size < static_cast<off_t>(sizeof(WalParcelHeader)) ||
	    file.st_size > static_cast<off_t>(sizeof(Parcel)))
		return "the descriptor that should hold the WAL keys does not";
	if (!forbid_dumps())
		return "this process cannot be kept from being dumped";
	used_ = (static_cast<std::size_t>(file.st_size) + kMemoryPage - 1) / kMemoryPage * kMemoryPage;
	madvise(&pages, sizeof pages,
	        MADV_DONTDUMP); // second lines of defence: a kernel may lack the one, a limit forbid the other
	lock();
	pthread_atfork(nullptr, nullptr, [] { keys.lock(); }); // a child inherits the pages, not their lock
	const auto size = static_cast<std::size_t>(file.st_size);
	std::size_t done = 0;
	while (done < size) {
		const ssize_t n = real().pread(fd, pages.bytes + done, size - done, static_cast<off_t>(done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += static_cast<std::size_t>(n);
	}
	if (done != size || !wal_parcel_valid(pages.parcel.header, pages.parcel.keys, size)) {
		wipe();
		return "the WAL keys come from another version of pgseal";
	}
	taken_ = true;
	return nullptr;
}

void ParcelKeys::lock() noexcept
{
	if (used_ > 0 && mlock(&pages, used_) != 0)
		std::fprintf(stderr, "pg_seal: warning: the WAL keys could not be locked in memory: %s\n",
		             std::strerror(errno));
}

const char* ParcelKeys::data_directory() const noexcept { return pages.parcel.header.data_directory; }

std::uint64_t ParcelKeys::system_identifier() const noexcept { return pages.parcel.header.system_identifier; }

void ParcelKeys::wipe() noexcept
{
	seal::wipe(&pages, sizeof pages);
	munlock(&pages, used_);
	used_ = 0;
	taken_ = false;
}

// Of several generations with the same mark the newest is meant: they are 1024 keys apart.
WalCipher* ParcelKeys::by_mark(std::uint16_t mark, std::uint32_t* generation) noexcept
{
	const WalParcelKey* found = nullptr;
	for (std::uint32_t i = 0; i < pages.parcel.header.count; ++i)
		if (pages.parcel.keys[i].generation % kWalGenerations == mark)
			found = &pages.parcel.keys[i];
	if (!found)
		return nullptr;
	*generation = found->generation;
	WalCipher*& cipher = ciphers_[mark];
	if (!cipher) {
		WalCipher* made = new (std::nothrow) WalCipher;
		if (!made || !made->make(found->cipher) || !made->set_key(found->key)) {
			delete made;
			return nullptr;
		}
		cipher = made;
	}
	return cipher;
}

std::uint32_t ParcelKeys::newest() noexcept { return pages.parcel.header.newest; }

} // namespace seal::preload
