// What a process that holds keys does first: no core dump, no debugger of the same user, nothing inherited from the server.
#pragma once

namespace seal::cli {

// RLIMIT_CORE 0 and PR_SET_DUMPABLE 0. False when the system refuses one of them.
bool forbid_dumps();
// No signal blocked, SIGCHLD as usual (an ignored one would hide how a PIN command ended), SIGPIPE ignored.
void reset_signals();
// Closes every descriptor above 2 except `keep` (-1: none), which is marked close-on-exec.
void close_other_descriptors(int keep);

} // namespace seal::cli
