// DDL that moves or removes whole directories without the storage manager.
//
//   CREATE DATABASE ... STRATEGY file_copy, ALTER DATABASE ... SET TABLESPACE: raw copies. Key files travel with them; where the copy does
//     not meet the destination's policy, an operation brings it in order (raw_copy_check.hpp).
//   those, DROP DATABASE, and ALTER DATABASE ... RENAME need the database empty: an operation's worker leaves it (vacate.hpp).
//   CREATE and DROP DATABASE, and their redo: what the keymap knows of the database is forgotten.
//   DROP TABLESPACE: its policy goes with it, and its operations end.
//   every statement: what it may create in clear (require_encryption.hpp).
#pragma once

namespace seal::pg {

void install_ddl_guard(); // from _PG_init, after register_rmgr()

} // namespace seal::pg
