#include "real_calls.hpp"

#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>

namespace seal::preload {

static_assert(sizeof(off_t) == 8, "open() and open64(), pread() and pread64() are one function each");

namespace {

template <class Function> void look_up(Function*& function, const char* name) noexcept
{
	function = reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
	if (function)
		return;
	std::fprintf(stderr, "pg_seal: the C library offers no %s()\n", name);
	std::abort();
}

constinit RealCalls calls{};
constinit bool looked_up = false;

} // namespace

const RealCalls& real() noexcept
{
	if (!looked_up) {
		look_up(calls.open, "open");
		look_up(calls.openat, "openat");
		look_up(calls.close, "close");
		look_up(calls.read, "read");
		look_up(calls.write, "write");
		look_up(calls.pread, "pread");
		look_up(calls.pwrite, "pwrite");
		look_up(calls.pwritev, "pwritev");
		look_up(calls.ftruncate, "ftruncate");
		look_up(calls.unlink, "unlink");
		look_up(calls.rmdir, "rmdir");
		looked_up = true;
	}
	return calls;
}

} // namespace seal::preload
