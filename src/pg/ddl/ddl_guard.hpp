// DDL that moves or removes whole directories without the storage manager.
//
//   CREATE DATABASE ... STRATEGY file_copy, ALTER DATABASE ... SET TABLESPACE: raw copies. Key files travel with them; when the copy
//     would leave the destination's policy unmet, the statement is refused before anything is copied.
//   CREATE and DROP DATABASE, and their redo: what the keymap knows of the database is forgotten.
//   DROP TABLESPACE: its policy goes with it.
#pragma once

namespace seal::pg {

void install_ddl_guard(); // from _PG_init, after register_rmgr()

} // namespace seal::pg
