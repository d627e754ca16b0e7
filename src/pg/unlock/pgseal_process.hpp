// Starting the pgseal command as a child: by the postmaster (unlock) and by the agent worker (agent).
//
// The child has default signal dispositions, an empty signal mask, no descriptor but those it is given, a session of its own
// (a signal to the server's process group does not reach it), no core dumps, and dies with its parent.
#pragma once

#include "../pg.hpp"

#include <string>

namespace seal::pg {

std::string pgseal_path(); // pg_seal.pgseal_path, or "pgseal" beside the server's binary

struct ChildFiles {
	int input = -1, output = -1; // -1: /dev/null
	int error = 2;               // the server's own
	int extra = -1;              // becomes descriptor 3
};
// `arguments` ends with nullptr and begins with the program's name. -1 with errno set; exit code 127: could not execute.
pid_t spawn_pgseal(const std::string& path, const char* const arguments[], const ChildFiles& files) noexcept;

// Kills the child and all it started (its session's process group).
void kill_pgseal(pid_t pid, int signal) noexcept;
// Reaps one child by its pid. True when it has ended; never waits longer than `wait_ms`.
bool reap_pgseal(pid_t pid, int wait_ms, int* status) noexcept;
std::string describe_exit(int status); // "exit code 1", "signal 11 (Segmentation fault)"

} // namespace seal::pg
