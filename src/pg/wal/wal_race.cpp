#include "wal_race.hpp"

#include "../files/file_seam.hpp"

#include <atomic>

namespace seal::pg {

namespace {

struct Race {
	std::atomic<uint64> begun, done; // writes
	std::atomic<uint64> first, end; // pages of the write begun last; first is kWalStartUnknown: any
};
static_assert(std::atomic<uint64>::is_always_lock_free);

Race* race; // nullptr before shared memory is there: nobody races then
uint64 rereads;

uint64 page_of(uint64 address) noexcept { return address == kWalStartUnknown ? address : address - address % kWalPageSize; }

// Did a write of a page among [address, address + size) overlap a read that began when `done` writes had ended?
bool disturbed(uint64 done, uint64 address, size_t size) noexcept
{
	std::atomic_thread_fence(std::memory_order_seq_cst);
	const uint64 begun = race->begun.load();
	if (begun == done)
		return false;
	if (begun != done + 1 || address == kWalStartUnknown)
		return true;
	const uint64 first = race->first.load(), end = race->end.load();
	if (race->begun.load() != begun)
		return true;
	return first == kWalStartUnknown || (first < address + size && end > address);
}

class BracketedIo final : public WalRawIo {
public:
	ssize_t read(int fd, void* buffer, size_t size, off_t offset, uint64 address) noexcept override
	{
		if (!race)
			return stock::pread(fd, buffer, size, offset);
		for (uint64 tries = 1;; tries++) {
			const uint64 done = race->done.load();
			std::atomic_thread_fence(std::memory_order_seq_cst);
			const ssize_t got = stock::pread(fd, buffer, size, offset);
			const int error = errno;
			if (!disturbed(done, address, size)) {
				errno = error;
				return got;
			}
			rereads++;
			if (tries % 16 == 0)
				pg_usleep(20);
		}
	}

	ssize_t write(int fd, const void* buffer, size_t size, off_t offset, uint64 address) noexcept override
	{
		if (!race)
			return stock::pwrite(fd, buffer, size, offset);
		// Counted in before it says where: a reader that sees the pages of the write after the one it overlapped sees two begun.
		race->begun.fetch_add(1);
		race->first.store(page_of(address));
		race->end.store(address + size);
		std::atomic_thread_fence(std::memory_order_seq_cst);
		const ssize_t put = stock::pwrite(fd, buffer, size, offset);
		const int error = errno;
		race->done.fetch_add(1);
		errno = error;
		return put;
	}
};

BracketedIo io;

} // namespace

WalRawIo& wal_raw_io() noexcept { return io; }

Size wal_race_shmem_size() { return sizeof(Race); }

void wal_race_shmem_init(void* memory)
{
	race = new (memory) Race{};
	race->first = kWalStartUnknown;
}

uint64 wal_race_rereads() noexcept { return rereads; }

} // namespace seal::pg
