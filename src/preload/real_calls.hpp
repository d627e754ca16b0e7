// The C library's own functions, past the ones of this library that stand before them.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

namespace seal::preload {

struct RealCalls {
	int (*open)(const char*, int, ...);
	int (*openat)(int, const char*, int, ...);
	int (*close)(int);
	ssize_t (*read)(int, void*, size_t);
	ssize_t (*write)(int, const void*, size_t);
	ssize_t (*pread)(int, void*, size_t, off_t);
	ssize_t (*pwrite)(int, const void*, size_t, off_t);
	ssize_t (*pwritev)(int, const iovec*, int, off_t);
	int (*ftruncate)(int, off_t);
	int (*unlink)(const char*);
	int (*rmdir)(const char*);
};

// Looked up at the first call, which may come before this library's constructor (from another library's).
const RealCalls& real() noexcept;

} // namespace seal::preload
