// Sealed temporary files against plain ones: every mix of reads, writes and truncations gives the same bytes and sizes, and what lies on disk
// is, after every step, exactly what the reference computes for the contents.
#include "temp_reference.hpp"

#include "seal/temp_file_io.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

namespace seal {

namespace {

// Files in memory; the descriptor is the index.
struct MemoryIo final : TempRawIo {
	std::vector<Bytes> files = std::vector<Bytes>(4);
	std::size_t room = SIZE_MAX; // a write beyond it: no space
	int reads = 0;

	ssize_t read(int fd, void* buffer, std::size_t size, off_t offset) noexcept override
	{
		const Bytes& file = files[static_cast<std::size_t>(fd)];
		reads++;
		if (static_cast<std::size_t>(offset) >= file.size())
			return 0;
		const std::size_t got = std::min(size, file.size() - static_cast<std::size_t>(offset));
		std::memcpy(buffer, file.data() + offset, got);
		return static_cast<ssize_t>(got);
	}
	ssize_t write(int fd, const void* buffer, std::size_t size, off_t offset) noexcept override
	{
		Bytes& file = files[static_cast<std::size_t>(fd)];
		const std::size_t at = static_cast<std::size_t>(offset);
		if (at >= room) {
			errno = ENOSPC;
			return -1;
		}
		size = std::min(size, room - at);
		if (file.size() < at + size)
			file.resize(at + size, 0xEE); // a hole that is not filled would show
		std::memcpy(file.data() + at, buffer, size);
		return static_cast<ssize_t>(size);
	}
	int truncate(int fd, off_t size) noexcept override
	{
		files[static_cast<std::size_t>(fd)].resize(static_cast<std::size_t>(size), 0xEE);
		return 0;
	}
	off_t size(int fd) noexcept override { return static_cast<off_t>(files[static_cast<std::size_t>(fd)].size()); }
};

class TempFileIoTest : public ::testing::Test {
protected:
	TempFileIoTest()
	{
		EXPECT_TRUE(cipher.make(kTestSeed));
		for (int i = 0; i < 4; i++) {
			const std::string path = "base/pgsql_tmp/pgsql_tmp1." + std::to_string(i);
			EXPECT_TRUE(cipher.file_id(path.data(), path.size(), file[i].id));
			file[i].fd = i;
		}
		io->share(changes.data());
		other->share(changes.data());
	}

	void write(TempFileIo& by, int n, std::size_t at, std::size_t size)
	{
		Bytes bytes(size);
		for (std::uint8_t& byte : bytes)
			byte = static_cast<std::uint8_t>(random());
		ASSERT_EQ(static_cast<ssize_t>(size), by.pwrite(file[n], bytes.data(), size, static_cast<off_t>(at)));
		if (size > 0 && model[n].size() < at + size)
			model[n].resize(at + size, 0);
		std::copy(bytes.begin(), bytes.end(), model[n].begin() + static_cast<std::ptrdiff_t>(at));
	}
	void truncate(TempFileIo& by, int n, std::size_t size)
	{
		ASSERT_EQ(0, by.ftruncate(file[n], static_cast<off_t>(size)));
		model[n].resize(size, 0);
	}
	void read(TempFileIo& by, int n, std::size_t at, std::size_t size)
	{
		Bytes bytes(size + 1, 0x77);
		const std::size_t there = at >= model[n].size() ? 0 : std::min(size, model[n].size() - at);
		ASSERT_EQ(static_cast<ssize_t>(there), by.pread(file[n], bytes.data(), size, static_cast<off_t>(at)));
		ASSERT_TRUE(std::equal(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(there),
		                       model[n].begin() + static_cast<std::ptrdiff_t>(at)));
		ASSERT_EQ(0x77, bytes[size]);
	}
	void on_disk(int n)
	{
		ASSERT_EQ(reference.file(file[n].id, model[n]), raw.files[static_cast<std::size_t>(n)]) << model[n].size();
	}

	const TempReference reference{kTestSeed};
	TempCipher cipher;
	MemoryIo raw;
	std::vector<TempChanges> changes = std::vector<TempChanges>(kTempChangeCounters);
	std::unique_ptr<TempFileIo> io = std::make_unique<TempFileIo>(cipher, raw); // two processes with the same key
	std::unique_ptr<TempFileIo> other = std::make_unique<TempFileIo>(cipher, raw);
	TempFile file[4];
	Bytes model[4];
	std::mt19937 random{20261122};
};

} // namespace

TEST_F(TempFileIoTest, every_small_size_offset_and_length)
{
	for (std::size_t size = 0; size <= 50; size++)
		for (std::size_t at = 0; at <= 52; at++)
			for (std::size_t length = 1; length <= 35; length += length < 18 ? 1 : 8) {
				model[0].clear();
				raw.files[0].clear();
				io->changed(file[0].id);
				if (size > 0)
					write(*io, 0, 0, size);
				write(*io, 0, at, length);
				on_disk(0);
				read(*io, 0, 0, 200);
				if (HasFatalFailure())
					FAIL() << size << " " << at << " " << length;
			}
}

TEST_F(TempFileIoTest, every_offset_around_the_edge_of_a_unit)
{
	for (const std::size_t size : {8160u, 8183u, 8191u, 8192u, 8193u, 8207u, 8208u, 8209u, 16385u})
		for (std::size_t at = 8155; at <= 8226; at++)
			for (const std::size_t length : {1u, 16u, 50u}) {
				model[0].clear();
				raw.files[0].clear();
				io->changed(file[0].id);
				write(*io, 0, 0, size);
				write(*io, 0, at, length);
				on_disk(0);
				read(*io, 0, 8100, 8192);
				if (HasFatalFailure())
					FAIL() << size << " " << at << " " << length;
			}
}

TEST_F(TempFileIoTest, truncation_to_every_size)
{
	for (const std::size_t size : {5u, 16u, 17u, 40u, 48u, 8192u, 8193u, 8207u, 8208u, 8220u, 16390u})
		for (std::size_t to = 0; to <= size + 40;
		     to += to % 8192 > 40 && to % 8192 < 8040 && to + 150 < size ? 97 : 1) {
			model[0].clear();
			raw.files[0].clear();
			io->changed(file[0].id);
			write(*io, 0, 0, size);
			truncate(*io, 0, to);
			on_disk(0);
			read(*io, 0, 0, 20000);
			write(*io, 0, to, 21);
			on_disk(0);
			if (HasFatalFailure())
				FAIL() << size << " " << to;
		}
}

// Two processes and two files; one writes, the other reads at once: nothing that either keeps may be stale.
TEST_F(TempFileIoTest, random_mixes_by_two_processes_are_as_plain_files)
{
	for (int round = 0; round < 30; round++) {
		const std::size_t spread = round % 3 == 0 ? 100 : round % 3 == 1 ? 20000 : 120000;
		for (int step = 0; step < 60; step++) {
			const int n = static_cast<int>(random() % 2);
			TempFileIo& one = random() % 2 ? *io : *other;
			TempFileIo& two = random() % 2 ? *io : *other;
			const std::size_t at = random() % 3 ? random() % spread : model[n].size();
			const std::size_t size = random() % 4 == 0 ? 8192 : random() % 3 == 0 ? random() % 70000 : random() % 40;
			switch (random() % 8) {
			case 0: truncate(one, n, random() % (model[n].size() + 1)); break;
			case 1: truncate(one, n, model[n].size() + random() % 9000); break;
			case 2:
			case 3:
			case 4: write(one, n, std::min(at, model[n].size() + 10000) / (random() % 2 ? 1 : 8192), size); break;
			default: break;
			}
			read(two, n, at, size);
			read(two, n, at / 8192 * 8192, 8192);
			if (step % 10 == 0)
				on_disk(n);
			if (HasFatalFailure())
				FAIL() << "round " << round << " step " << step;
		}
		on_disk(0);
		on_disk(1);
	}
}

TEST_F(TempFileIoTest, repeated_reads_at_odd_offsets_reach_the_file_once)
{
	write(*io, 0, 0, 5 * 8192);
	read(*io, 0, 8192 + 100, 8192);
	const int before = raw.reads;
	for (std::size_t i = 0; i < 100; i++)
		read(*io, 0, 8192 + 100 + 10 * i, 6000);
	EXPECT_EQ(before, raw.reads);
	write(*other, 0, 8192, 16); // another process
	read(*io, 0, 8192 + 100, 8192);
	EXPECT_LT(before, raw.reads);
}

TEST_F(TempFileIoTest, a_path_that_is_made_anew_shows_nothing_of_the_old_file)
{
	write(*io, 0, 0, 9000);
	read(*io, 0, 50, 100);
	raw.files[0].clear(); // unlinked and created by another process, with other contents
	model[0].clear();
	other->changed(file[0].id);
	write(*other, 0, 0, 500);
	read(*io, 0, 50, 100);
}

TEST_F(TempFileIoTest, a_write_without_room_fails_and_says_so)
{
	write(*io, 0, 0, 8192);
	raw.room = 12000;
	Bytes bytes(8192, 1);
	errno = 0;
	EXPECT_EQ(-1, io->pwrite(file[0], bytes.data(), bytes.size(), 8192));
	EXPECT_EQ(ENOSPC, errno);
}

TEST_F(TempFileIoTest, offsets_that_no_unit_number_reaches_are_refused)
{
	std::uint8_t byte = 0;
	EXPECT_EQ(-1, io->pwrite(file[0], &byte, 1, static_cast<off_t>(kTempUnits * kTempUnitSize)));
	EXPECT_EQ(EFBIG, errno);
	EXPECT_EQ(-1, io->pwrite(file[0], &byte, 1, -1));
	EXPECT_EQ(-1, io->pread(file[0], &byte, 1, -1));
	EXPECT_EQ(-1, io->ftruncate(file[0], -1));
	EXPECT_TRUE(raw.files[0].empty());
}

} // namespace seal
