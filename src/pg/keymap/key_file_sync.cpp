#include "key_file_sync.hpp"

#include "../shmem.hpp"
#include "keymap_store.hpp"

extern "C" {
#include "pgstat.h"
#include "storage/fd.h"
#include "utils/wait_event.h"
}

#include <fcntl.h>
#include <unistd.h>

namespace seal::pg {

namespace {

bool known_database(Oid database, Oid default_tablespace, DatabaseKeys* out) noexcept
{
	LWLockAcquire(seal_lock(Lock::keymap), LW_SHARED);
	const DatabaseKeys* known = key_index_database_locked(database);
	const bool usable = known && known->pages > 0 && known->default_tablespace == default_tablespace;
	if (usable)
		*out = *known;
	LWLockRelease(seal_lock(Lock::keymap));
	return usable;
}

} // namespace

int key_file_sync(Oid database, Oid default_tablespace, char path[MAXPGPATH]) noexcept
{
	key_file_path(database, default_tablespace, path);
	// What has been published was written before; what is written from here on is not vouched for.
	DatabaseKeys keys;
	const bool known = known_database(database, default_tablespace, &keys);

	const int fd = BasicOpenFile(path, O_RDWR | PG_BINARY);
	if (fd < 0)
		return -1;
	pgstat_report_wait_start(WAIT_EVENT_DATA_FILE_SYNC);
	const int result = pg_fsync(fd);
	pgstat_report_wait_end();
	const int saved = errno;
	close(fd);
	if (result == 0 && known) {
		LWLockAcquire(seal_lock(Lock::keymap_writer), LW_EXCLUSIVE);
		DatabaseKeys now; // dropped, or moved, meanwhile?
		if (known_database(database, default_tablespace, &now) &&
		    memcmp(now.file_id, keys.file_id, sizeof now.file_id) == 0)
			keymap_remember(keys, keys.max_version);
		LWLockRelease(seal_lock(Lock::keymap_writer));
	}
	errno = saved;
	return result;
}

} // namespace seal::pg
