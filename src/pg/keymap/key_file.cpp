#include "key_file.hpp"

#include "../xlog.hpp"
#include "key_file_ids.hpp"
#include "key_index.hpp"

#include "seal/page_cipher.hpp"

extern "C" {
#include "catalog/pg_tablespace_d.h"
#include "common/relpath.h"
#include "storage/bufpage.h"
#include "storage/fd.h"
}

#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace seal::pg {

namespace {

// Only "no such file" means that it is not there.
bool exists(const char* path)
{
	struct stat st;
	if (stat(path, &st) == 0)
		return true;
	if (errno != ENOENT && errno != ENOTDIR)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not stat file \"%s\": %m", path)));
	return false;
}

// Calls `found(tablespace oid)` for each entry of pg_tblspc until it returns true.
template <class F> void each_tablespace(F found)
{
	DIR* dir = AllocateDir("pg_tblspc");
	while (dirent* entry = ReadDirExtended(dir, "pg_tblspc", LOG)) {
		const Oid tablespace = static_cast<Oid>(strtoul(entry->d_name, nullptr, 10));
		if (OidIsValid(tablespace) && found(tablespace))
			break;
	}
	FreeDir(dir);
}

template <class F> void each_database_in(const char* directory, F found)
{
	DIR* dir = AllocateDir(directory);
	if (!dir)
		return;
	while (dirent* entry = ReadDirExtended(dir, directory, LOG)) {
		const Oid database = static_cast<Oid>(strtoul(entry->d_name, nullptr, 10));
		if (OidIsValid(database))
			found(database);
	}
	FreeDir(dir);
}

} // namespace

Oid key_file_default_tablespace(Oid database, Oid hint)
{
	if (!OidIsValid(database))
		return GLOBALTABLESPACE_OID;
	if (database == MyDatabaseId && OidIsValid(MyDatabaseTableSpace))
		return MyDatabaseTableSpace;

	constexpr int kMostCandidates = 8;
	Oid candidates[kMostCandidates];
	int count = 0;
	char path[MAXPGPATH];
	snprintf(path, sizeof path, "base/%u/PG_VERSION", database);
	if (exists(path))
		candidates[count++] = DEFAULTTABLESPACE_OID;
	each_tablespace([&](Oid tablespace) {
		snprintf(path, sizeof path, "pg_tblspc/%u/%s/%u/PG_VERSION", tablespace, TABLESPACE_VERSION_DIRECTORY, database);
		if (exists(path))
			candidates[count++] = tablespace;
		return count == kMostCandidates;
	});
	if (count <= 1)
		return count == 0 ? InvalidOid : candidates[0];
	const Oid remembered = key_file_identity(database).default_tablespace;
	const Oid wanted[] = {hint, remembered};
	for (const Oid tablespace : wanted)
		for (int i = 0; i < count; ++i)
			if (candidates[i] == tablespace)
				return tablespace;
	return candidates[count - 1]; // a move goes away from base/ more often than back; a session of the database corrects it
}

void key_file_path(Oid database, Oid default_tablespace, char path[MAXPGPATH])
{
	if (default_tablespace == GLOBALTABLESPACE_OID)
		snprintf(path, MAXPGPATH, "global/%s", kKeyFileName);
	else if (default_tablespace == DEFAULTTABLESPACE_OID)
		snprintf(path, MAXPGPATH, "base/%u/%s", database, kKeyFileName);
	else
		snprintf(path, MAXPGPATH, "pg_tblspc/%u/%s/%u/%s", default_tablespace, TABLESPACE_VERSION_DIRECTORY, database,
		         kKeyFileName);
}

int key_file_open(const char* path, bool write, bool create)
{
	return OpenTransientFile(path, (write ? O_RDWR : O_RDONLY) | (create ? O_CREAT : 0) | PG_BINARY);
}

void key_file_close(int fd) noexcept { CloseTransientFile(fd); }

uint32 key_file_pages(int fd, const char* path)
{
	struct stat st;
	if (fstat(fd, &st) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not stat key file \"%s\": %m", path)));
	return static_cast<uint32>(st.st_size / BLCKSZ);
}

bool key_file_read_page(int fd, const char* path, uint32 page, uint8* buffer, const uint8 file_id[16], int elevel)
{
	errno = 0;
	const ssize_t got = pg_pread(fd, buffer, BLCKSZ, static_cast<off_t>(page) * BLCKSZ);
	if (got != BLCKSZ) {
		if (got >= 0)
			errno = EIO; // the file is shorter than it was
		ereport(elevel, (errcode_for_file_access(), errmsg("could not read page %u of key file \"%s\": %m", page, path)));
		return false;
	}
	if (page_is_zero(buffer)) {
		key_page_init(buffer, file_id);
		return true;
	}
	if (!key_page_valid(buffer)) {
		ereport(elevel, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("page %u of key file \"%s\" is damaged", page, path),
		                 errhint("Restore the file from the same backup as the data of its database.")));
		return false;
	}
	return true;
}

void key_file_read_slot(int fd, const char* path, uint32 slot, KeySlot* out)
{
	const off_t at = static_cast<off_t>(slot / kSlotsPerPage) * BLCKSZ + kSlotOffset + slot % kSlotsPerPage * kSlotSize;
	for (;;) {
		const uint32 writes = key_index_file_writes();
		if (writes % 2 != 0) { // a page of some file is just being written
			pg_usleep(20);
			continue;
		}
		errno = 0;
		const ssize_t got = pg_pread(fd, reinterpret_cast<char*>(out), kSlotSize, at);
		if (key_index_file_writes() != writes)
			continue;
		if (got == static_cast<ssize_t>(kSlotSize))
			return;
		if (got >= 0)
			errno = EIO; // the file is shorter than it was
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not read a key record of \"%s\": %m", path)));
	}
}

bool key_file_write_page(int fd, uint32 page, uint8* buffer) noexcept
{
	reinterpret_cast<PageHeader>(buffer)->pd_checksum = page_checksum(buffer, page);
	if (crash_point("keymap.write_page"))
		return false;
	key_index_file_write(true);
	errno = 0;
	const ssize_t put = pg_pwrite(fd, buffer, BLCKSZ, static_cast<off_t>(page) * BLCKSZ);
	key_index_file_write(false);
	if (put >= 0 && put != BLCKSZ)
		errno = ENOSPC;
	return put == BLCKSZ;
}

void key_file_grow(int fd, const char* path, uint32 pages, uint32 more, const uint8 file_id[16])
{
	alignas(8) static uint8 buffer[kPageSize];
	key_page_init(buffer, file_id);
	bool ok = true;
	for (uint32 i = 0; ok && i < more; ++i)
		ok = !crash_point("keymap.grow") && key_file_write_page(fd, pages + i, buffer);
	ok = ok && (pages > 0 || pg_fsync(fd) == 0);
	if (!ok) {
		const int saved = errno;
		if (ftruncate(fd, static_cast<off_t>(pages) * BLCKSZ) != 0)
			ereport(WARNING, (errcode_for_file_access(), errmsg("could not cut key file \"%s\" back: %m", path)));
		errno = saved;
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not extend key file \"%s\": %m", path),
		                errhint("No key was created and nothing was changed. Check free disk space.")));
	}
	if (pages == 0) {
		char directory[MAXPGPATH];
		strlcpy(directory, path, sizeof directory);
		*strrchr(directory, '/') = '\0';
		fsync_fname(directory, true);
	}
}

void key_file_walk(KeyFileVisitor visit, void* arg)
{
	char path[MAXPGPATH];
	const auto offer = [&](Oid database, Oid tablespace) {
		key_file_path(database, tablespace, path);
		if (exists(path))
			visit(database, tablespace, arg);
	};
	offer(InvalidOid, GLOBALTABLESPACE_OID);
	each_database_in("base", [&](Oid database) { offer(database, DEFAULTTABLESPACE_OID); });
	each_tablespace([&](Oid tablespace) {
		char directory[MAXPGPATH];
		snprintf(directory, sizeof directory, "pg_tblspc/%u/%s", tablespace, TABLESPACE_VERSION_DIRECTORY);
		each_database_in(directory, [&](Oid database) { offer(database, tablespace); });
		return false;
	});
}

} // namespace seal::pg
