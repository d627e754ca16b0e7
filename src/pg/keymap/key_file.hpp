// Key files on disk: where a database's file lies, and reading, growing and writing its pages. No locking and no WAL here: the
// callers (keymap.cpp, keymap_redo.cpp, reap.cpp) hold Lock::keymap_writer for every change.
//
// A page written here always carries a valid page header and checksum, and the file is a whole number of pages: stock pg_checksums
// and pg_basebackup take it for relation pages.
#pragma once

#include "../pg.hpp"

#include "seal/key_slot.hpp"

namespace seal::pg {

// The database's default tablespace: its own session's, or the place where its directory holds PG_VERSION (only the default
// directory does). A crash in ALTER DATABASE SET TABLESPACE can leave two: then `hint` (from WAL) or what pg_seal/keyfiles remembers
// decides. InvalidOid: there is no such directory now. ERROR when that cannot be told.
Oid key_file_default_tablespace(Oid database, Oid hint);
// "global/pg_seal_keys", "base/5/pg_seal_keys", "pg_tblspc/16400/PG_15_.../5/pg_seal_keys".
void key_file_path(Oid database, Oid default_tablespace, char path[MAXPGPATH]);

// Transient descriptors (closed by an ERROR). -1 with errno when it cannot be opened.
int key_file_open(const char* path, bool write, bool create);
void key_file_close(int fd) noexcept;
uint32 key_file_pages(int fd, const char* path); // whole pages; ERROR when it cannot be told

// Reads one page and checks header and magic. A page of zeroes (a crash while the file grew) counts as empty and is
// initialised in memory with `file_id`. ERROR (or `elevel`, then false) names the file and the page.
bool key_file_read_page(int fd, const char* path, uint32 page, uint8* buffer, const uint8 file_id[16], int elevel);
// Reads one slot, whole: not half of one that is being written. ERROR on failure. Needs no lock.
void key_file_read_slot(int fd, const char* path, uint32 slot, KeySlot* out);
// Sets checksum, writes; readers of single slots are told (key_index.hpp). False with errno. Allowed in a critical section.
bool key_file_write_page(int fd, uint32 page, uint8* buffer) noexcept;
// Appends empty pages. A file that had none is made durable, its directory entry too; one that grows is the next checkpoint's to make durable, like
// what is then written into it: a crash before it leaves the file shorter, or pages of zeroes. On failure (disk full) the file is cut back to
// `pages` and an ERROR raised: nothing is changed.
void key_file_grow(int fd, const char* path, uint32 pages, uint32 more, const uint8 file_id[16]);

// Calls visit for every database that has a key file.
typedef void (*KeyFileVisitor)(Oid database, Oid default_tablespace, void* arg);
void key_file_walk(KeyFileVisitor visit, void* arg);

} // namespace seal::pg
