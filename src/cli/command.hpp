// The commands of pgseal: one file each, command_<name>.cpp, which adds a subcommand to the application.
//
// A command reads its options, does its work and stores an exit code. 0: fine; 1: the answer is "no" (a finding, a
// failure); 2: could not be asked (usage, files, connection). What is written for programs goes to standard output,
// all else to standard error. No command writes into a data directory, but for exec around pg_upgrade (upgrade.hpp).
#pragma once

#include <CLI/CLI.hpp>

namespace seal::cli {

inline constexpr char kVersion[] = "1.0.0";

inline constexpr int kExitOk = 0;
inline constexpr int kExitProblem = 1;
inline constexpr int kExitUnable = 2;

void add_unlock_command(CLI::App& app, int& exit_code);
void add_agent_command(CLI::App& app, int& exit_code);
void add_exec_command(CLI::App& app, int& exit_code);
void add_status_command(CLI::App& app, int& exit_code);
void add_doctor_command(CLI::App& app, int& exit_code);
void add_scan_command(CLI::App& app, int& exit_code);

} // namespace seal::cli
