// The proof that the server's calls arrive in the seam: a kind of file that exists only during the probe.
//
// In a child of the postmaster the server's own functions open, use and close a name that no file has (behind the descriptors is
// /dev/null: nothing is touched); each call must arrive in the functions of the kind.
#pragma once

#include "file_seam.hpp"

namespace seal::pg {

// What a redirected slot does; the order is that of kFileRoleNames.
enum FileRole {
	file_open,
	file_close,
	file_read,
	file_write,
	file_pread,
	file_pwrite,
	file_pwritev,
	file_ftruncate,
	kFileRoles
};
inline constexpr const char* kFileRoleNames[kFileRoles] = {"open",  "close",  "read",    "write",
                                                           "pread", "pwrite", "pwritev", "ftruncate"};

extern const FileKind kProbeFileKind;

bool file_probe_runs() noexcept; // in the child that probes
void file_probe_run();           // FATAL, naming the function whose call did not arrive

} // namespace seal::pg
