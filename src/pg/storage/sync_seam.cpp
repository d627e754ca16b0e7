#include "sync_seam.hpp"

#include "../keymap/key_file_sync.hpp"
#include "pointer_table.hpp"
#include "probe_child.hpp"
#include "server_smgr.hpp"

extern "C" {
#include "access/xlog.h"
}

#include <cstring>

namespace seal::pg {

namespace {

ServerSync stock;
bool probing = false; // in the child that proves the seam
int probed = 0;

FileTag key_file_tag(Oid database, Oid default_tablespace) noexcept
{
	FileTag tag;
	memset(&tag, 0, sizeof tag); // compared and hashed as bytes
	tag.handler = SYNC_HANDLER_MD;
	tag.forknum = kKeyFileFork;
	tag.rnode.spcNode = default_tablespace;
	tag.rnode.dbNode = database;
	return tag;
}

int seal_sync(const FileTag* tag, char* path)
{
	if (unlikely(probing)) {
		path[0] = '\0';
		++probed;
		return 0;
	}
	if (tag->forknum == kKeyFileFork)
		return key_file_sync(tag->rnode.dbNode, tag->rnode.spcNode, path);
	return stock.handlers[SYNC_HANDLER_MD].sync(tag, path);
}

// In a child, so that the postmaster itself never has a table of pending requests (its children would inherit it and keep requests to themselves
// that belong to the checkpointer). Two requests of our own through the server's queue and dispatch; both must arrive.
int probe_in_child()
{
	enableFsync = true; // with fsync = off the server would not call
	log_checkpoints = false;
	probing = true;
	InitSync();
	FileTag tags[2] = {key_file_tag(1, 1), key_file_tag(2, 1)};
	for (FileTag& tag : tags)
		if (!RegisterSyncRequest(&tag, SYNC_REQUEST, false))
			return 3;
	ProcessSyncRequests();
	return probed == 2 ? 0 : 1;
}

void probe()
{
	const int status = run_probe_in_child("sync requests", probe_in_child);
	if (status != 0)
		ereport(
			FATAL,
			(errmsg("pg_seal: the server does not process its sync requests through the table (probe ended with status "
		            "0x%x)",
		            status),
		     errdetail("The binary may have been built with link-time optimisation that calls the functions directly."),
		     errhint(
				 "Use the PostgreSQL packages of the distribution; \"pgseal doctor --binary\" examines a server.")));
}

} // namespace

void sync_seam_install()
{
	stock = stock_sync();
	void* wanted[kSyncEntries];
	memcpy(wanted, &stock, sizeof wanted);
	const PointerTable table = {"sync table", kSyncEntryNames, wanted, kSyncEntries};
	void** const place = pointer_table_find(table);
	ServerSync ours = stock;
	ours.handlers[SYNC_HANDLER_MD].sync = seal_sync;
	void* entries[kSyncEntries];
	memcpy(entries, &ours, sizeof entries);
	pointer_table_write(table, place, entries);
	probe();
}

bool sync_key_file_later(Oid database, Oid default_tablespace) noexcept
{
	const FileTag tag = key_file_tag(database, default_tablespace);
	return RegisterSyncRequest(&tag, SYNC_REQUEST, false);
}

void sync_key_file_forget(Oid database, Oid default_tablespace) noexcept
{
	const FileTag tag = key_file_tag(database, default_tablespace);
	(void) RegisterSyncRequest(&tag, SYNC_FORGET_REQUEST, true);
}

} // namespace seal::pg
