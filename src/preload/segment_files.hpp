// The WAL segments that this process has open, and reading and writing them in clear through WalSegmentIo.
//
// A file is a segment by its name alone (24 hexadecimal digits, perhaps ".partial"; xlogtemp.N; RECOVERYXLOG): tools write them anywhere.
// Any failure that the tool would take for something else (the end of WAL, a damaged file) ends the process with a message.
#pragma once

#include <sys/types.h>

namespace seal::preload {

// The last component of the path names a WAL segment.
bool is_segment_path(const char* path) noexcept;

bool segment_opened(int fd, const char* path) noexcept; // false: too many at once
bool segment_is_open(int fd) noexcept;
void segment_closing(int fd) noexcept; // and whenever a number is given out again: a tool may close without the library
void segment_truncated(int fd) noexcept;

// As read(2) and write(2), at the descriptor's own position, and as pread(2) and pwrite(2).
ssize_t segment_read(int fd, void* buffer, size_t size) noexcept;
ssize_t segment_write(int fd, const void* buffer, size_t size) noexcept;
ssize_t segment_pread(int fd, void* buffer, size_t size, off_t offset) noexcept;
ssize_t segment_pwrite(int fd, const void* buffer, size_t size, off_t offset) noexcept;

} // namespace seal::preload
