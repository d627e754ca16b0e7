// The constructor: who am I, where are the keys. And the end: wipe them.
//
// A tool that is served takes the keys, closes the memory file and strikes the library out of its environment, so that what it runs (a shell for
// restore_command, the server in single-user mode) is started as without pg_seal; so does any program that is none of the tools. Only
// pg_verifybackup, pg_upgrade and the shells between them and their tools pass both on.
#include "preload.hpp"
#include "real_calls.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <unistd.h>

namespace seal::preload {

constinit Role role = Role::aside;
constinit ParcelKeys keys;

namespace {

constexpr char kLibraryName[] = "libseal_preload.so";

int descriptor_in(const char* variable) noexcept
{
	const char* text = std::getenv(variable);
	if (!text || *text < '0' || *text > '9')
		return -1;
	char* end;
	const long number = std::strtol(text, &end, 10);
	return *end == '\0' && number > 2 && number < 1 << 20 ? static_cast<int>(number) : -1;
}

// Every entry of LD_PRELOAD but this library.
void strike_out_of_environment()
{
	unsetenv(kParcelVariable);
	const char* list = std::getenv("LD_PRELOAD");
	std::string rest;
	for (const char* at = list; at && *at;) {
		const std::size_t size = std::strcspn(at, ": ");
		const std::string entry(at, size);
		const std::size_t slash = entry.rfind('/');
		if (!entry.empty() && entry.substr(slash == std::string::npos ? 0 : slash + 1) != kLibraryName)
			rest += (rest.empty() ? "" : ":") + entry;
		at += size + (at[size] != '\0');
	}
	if (rest.empty())
		unsetenv("LD_PRELOAD");
	else
		setenv("LD_PRELOAD", rest.c_str(), 1);
}

void answer_probe()
{
	const int fd = descriptor_in(kParcelProbeVariable);
	if (fd < 0)
		return;
	if (real().write(fd, kParcelProbeAnswer, sizeof kParcelProbeAnswer - 1) !=
	    static_cast<ssize_t>(sizeof kParcelProbeAnswer - 1))
		_exit(1);
	real().close(fd);
	unsetenv(kParcelProbeVariable);
}

[[gnu::constructor]] void start()
{
	const Role mine = program_role();
	const int fd = descriptor_in(kParcelVariable);
	if (mine == Role::aside) {
		if (fd >= 0) {
			real().close(fd);
			strike_out_of_environment();
		}
		return;
	}
	answer_probe();
	if (fd >= 0 && mine == Role::pass_on && !forbid_dumps()) // it takes no keys, but holds the descriptor that does
		std::fprintf(stderr, "pg_seal: warning: this process could not be kept from being dumped\n");
	if (fd < 0 || mine == Role::pass_on)
		return;
	if (const char* wrong = keys.take(fd)) {
		std::fprintf(stderr, "pg_seal: error: %s\n", wrong);
		_exit(1);
	}
	real().close(fd);
	strike_out_of_environment();
	role = mine;
}

[[gnu::destructor]] void finish()
{
	if (keys.taken())
		keys.wipe();
	role = Role::aside;
}

} // namespace

} // namespace seal::preload

// Asked by the server's file seam (src/pg/files/import_slots.cpp), should the library have come into a server after all: 1, every call is passed on.
extern "C" __attribute__((visibility("default"))) int pgseal_preload_stands_down()
{
	return seal::preload::role == seal::preload::Role::aside;
}
