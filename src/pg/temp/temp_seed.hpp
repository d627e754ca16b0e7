// The key of files that live no longer than the server runs, and each process's ciphers from it.
//
// Drawn in the postmaster before the first child of a start exists, and anew at each crash restart: what an earlier life of the server left behind
// is unreadable from then on, also to whoever reads the new one's memory. That is safe because nothing reads such a file across a
// restart: the server deletes temporary and spill files and empties pg_notify when it starts, and no process that could have them open outlives a
// crash. Kept in the vault only, so that it reaches neither disk nor core dump.
#pragma once

#include "seal/temp_cipher.hpp"

namespace seal::pg {

// From the startup of shared memory; no child exists. FATAL if no random bytes can be had (at a crash restart: the old key stays).
void temp_seed_draw();

// Are such files sealed (pg_seal.encrypt_temp_files)?
bool temp_files_sealed() noexcept;

// This process's ciphers, made at its first file. nullptr with errno set when that fails.
TempCipher* temp_cipher() noexcept;

} // namespace seal::pg
