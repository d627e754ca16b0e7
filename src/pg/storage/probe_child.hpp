// Runs a probe of a seam in a child of the postmaster, so that what the probed code leaves behind (tables, counters, exit callbacks)
// dies with the child and is not inherited by every later one.
#pragma once

namespace seal::pg {

// Forks, runs `probe` there and returns the status of waitpid(2). The child exits with what `probe` returns (0 to 125; 126: it raised
// an error). The server's reaper never sees it. FATAL, naming `what`, when no child can be had.
int run_probe_in_child(const char* what, int (*probe)());

} // namespace seal::pg
