#include "key_file_ids.hpp"

#include "seal/registry.hpp"

extern "C" {
#include "common/file_perm.h"
#include "storage/fd.h"
}

#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace seal::pg {

namespace {

constexpr char kPath[] = "pg_seal/keyfiles";

// The record's position, or that of a free one (known = 0) when there is none. False: the file cannot be read.
bool find(int fd, Oid database, KeyFileIdentity* identity, off_t* position) noexcept
{
	off_t free_place = -1;
	KeyFileIdentity record;
	for (off_t at = 0;; at += sizeof record) {
		const ssize_t got = pg_pread(fd, reinterpret_cast<char*>(&record), sizeof record, at);
		if (got < 0)
			return false;
		if (got < static_cast<ssize_t>(sizeof record)) {
			*position = free_place >= 0 ? free_place : at;
			*identity = {};
			identity->database = database;
			return true;
		}
		if (record.known != 0 && record.database == database) {
			*position = at;
			*identity = record;
			return true;
		}
		if (record.known == 0 && free_place < 0)
			free_place = at;
	}
}

void store(Oid database, const KeyFileIdentity& identity) noexcept
{
	int fd = BasicOpenFile(kPath, O_RDWR | O_CREAT | PG_BINARY);
	if (fd < 0 && errno == ENOENT && MakePGDirectory(kSealDirectory) == 0)
		fd = BasicOpenFile(kPath, O_RDWR | O_CREAT | PG_BINARY);
	KeyFileIdentity old;
	off_t position;
	if (fd < 0 || !find(fd, database, &old, &position) ||
	    pg_pwrite(fd, reinterpret_cast<const char*>(&identity), sizeof identity, position) != sizeof identity)
		ereport(WARNING, (errcode_for_file_access(), errmsg("could not write file \"%s\": %m", kPath),
		                  errdetail("Exchanged key files may go unnoticed until it can be written again.")));
	if (fd >= 0)
		close(fd);
}

} // namespace

KeyFileIdentity key_file_identity(Oid database)
{
	KeyFileIdentity identity = {};
	identity.database = database;
	const int fd = BasicOpenFile(kPath, O_RDONLY | PG_BINARY);
	if (fd < 0)
		return identity;
	off_t position;
	const bool ok = find(fd, database, &identity, &position);
	close(fd);
	if (!ok)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not read file \"%s\": %m", kPath)));
	return identity;
}

void key_file_remember(const KeyFileIdentity& identity) noexcept { store(identity.database, identity); }

void key_file_forget(Oid database) noexcept
{
	if (access(kPath, F_OK) != 0)
		return;
	store(database, KeyFileIdentity{});
}

} // namespace seal::pg
