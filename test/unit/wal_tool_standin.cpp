// Stands in for a stock tool in the tests of `pgseal exec`: copied under a tool's name, it does to files what such a tool does, with the C library's
// functions alone.
//
//   cat FILE                 reads it page by page, prints it
//   copy FROM TO SIZE        pads TO with zeroes if it is new, then writes FROM into it, SIZE bytes a time
//   copy-raw FROM TO         the bytes of FROM as read() gives them, written whole
//   look                     what of pg_seal can be seen in this process
//   run COMMAND              through a shell
//   remove PATH, cut PATH    unlink; open for writing and ftruncate to 0
//   ... -D DIRECTORY         at the end: means nothing here
//   fail CODE, die           ends with this status; by SIGTERM
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace {

std::vector<char> read_all(const char* path, size_t piece)
{
	std::vector<char> bytes, buffer(piece);
	const int fd = open(path, O_RDONLY);
	if (fd < 0) {
		std::perror(path);
		std::exit(3);
	}
	for (ssize_t n; (n = read(fd, buffer.data(), buffer.size())) > 0;)
		bytes.insert(bytes.end(), buffer.begin(), buffer.begin() + n);
	close(fd);
	return bytes;
}

int write_all(const char* path, const std::vector<char>& bytes, size_t piece, bool pad)
{
	const int fd = open(path, O_WRONLY | O_CREAT, 0600);
	struct stat file;
	if (fd < 0 || fstat(fd, &file) != 0)
		return 3;
	if (pad && file.st_size == 0) {
		const std::vector<char> zeroes(8192);
		for (size_t done = 0; done < bytes.size(); done += zeroes.size())
			if (write(fd, zeroes.data(), zeroes.size()) != static_cast<ssize_t>(zeroes.size()))
				return 3;
		if (lseek(fd, 0, SEEK_SET) != 0)
			return 3;
	}
	for (size_t done = 0; done < bytes.size();) {
		const size_t size = std::min(piece, bytes.size() - done);
		if (write(fd, bytes.data() + done, size) != static_cast<ssize_t>(size))
			return 3;
		done += size;
	}
	return close(fd) == 0 ? 0 : 3;
}

void look()
{
	for (const char* name : {"LD_PRELOAD", "PG_SEAL_PARCEL_FD", "PG_SEAL_PROBE_FD"})
		std::printf("%s=%s\n", name, std::getenv(name) ? std::getenv(name) : "");
	std::printf("dumpable=%d\n", prctl(PR_GET_DUMPABLE));
	int memory_files = 0;
	for (int fd = 0; fd < 1024; ++fd)
		memory_files += fcntl(fd, F_GET_SEALS) > 0;
	std::printf("memory files=%d\n", memory_files);
}

} // namespace

int main(int argc, char** argv)
{
	if (argc > 3 && std::strcmp(argv[argc - 2], "-D") == 0)
		argc -= 2; // what pg_rewind works on: for pgseal to read
	const std::string what = argc > 1 ? argv[1] : "";
	if (what == "--version") {
		std::puts("a stand-in");
		return 0;
	}
	if (what == "cat" && argc == 3) {
		const std::vector<char> bytes = read_all(argv[2], 8192);
		return std::fwrite(bytes.data(), 1, bytes.size(), stdout) == bytes.size() ? 0 : 3;
	}
	if (what == "copy" && argc == 5)
		return write_all(argv[3], read_all(argv[2], 65536), static_cast<size_t>(std::atol(argv[4])), true);
	if (what == "copy-raw" && argc == 4)
		return write_all(argv[3], read_all(argv[2], 8192), 1u << 20, false);
	if (what == "look") {
		look();
		return 0;
	}
	if (what == "run" && argc == 3)
		return std::system(argv[2]) == 0 ? 0 : 4;
	if (what == "remove" && argc == 3)
		return unlink(argv[2]) == 0 ? 0 : 3;
	if (what == "cut" && argc == 3) {
		const int fd = open(argv[2], O_WRONLY);
		return fd >= 0 && ftruncate(fd, 0) == 0 && close(fd) == 0 ? 0 : 3;
	}
	if (what == "fail" && argc == 3)
		return std::atoi(argv[2]);
	if (what == "die")
		std::raise(SIGTERM);
	return 2;
}
