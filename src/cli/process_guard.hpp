// What a process that holds keys does first: no core dump, no debugger of the same user, no inherited descriptors.
#pragma once

namespace seal::cli {

// Sets RLIMIT_CORE to 0, PR_SET_DUMPABLE to 0 and ignores SIGPIPE. False when the system refuses one of them.
bool forbid_dumps();
// Closes every descriptor above 2 except `keep` (-1: none), which is marked close-on-exec.
void close_other_descriptors(int keep);

} // namespace seal::cli
