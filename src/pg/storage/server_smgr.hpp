// What differs by server version about storage: the shapes of the private dispatch tables of smgr.c and sync.c and the stock
// functions they hold. The one place to touch when a version is added.
#pragma once

#include "../pg.hpp"

extern "C" {
#include "access/clog.h"
#include "access/commit_ts.h"
#include "access/multixact.h"
#include "storage/md.h"
#include "storage/smgr.h"
#include "storage/sync.h"
}

#if PG_VERSION_NUM / 10000 != 15
#error "pg_seal supports PostgreSQL 15; add the storage manager table of this version to server_smgr.hpp"
#endif

namespace seal::pg {

// Mirrors f_smgr of PostgreSQL 15's src/backend/storage/smgr/smgr.c (read from its source, asserted against the binary).
struct ServerSmgr {
	void (*init)();
	void (*shutdown)();
	void (*open)(SMgrRelation);
	void (*close)(SMgrRelation, ForkNumber);
	void (*create)(SMgrRelation, ForkNumber, bool);
	bool (*exists)(SMgrRelation, ForkNumber);
	void (*unlink)(RelFileNodeBackend, ForkNumber, bool);
	void (*extend)(SMgrRelation, ForkNumber, BlockNumber, char*, bool);
	bool (*prefetch)(SMgrRelation, ForkNumber, BlockNumber);
	void (*read)(SMgrRelation, ForkNumber, BlockNumber, char*);
	void (*write)(SMgrRelation, ForkNumber, BlockNumber, char*, bool);
	void (*writeback)(SMgrRelation, ForkNumber, BlockNumber, BlockNumber);
	BlockNumber (*nblocks)(SMgrRelation, ForkNumber);
	void (*truncate)(SMgrRelation, ForkNumber, BlockNumber, BlockNumber);
	void (*immedsync)(SMgrRelation, ForkNumber);
};
inline constexpr int kSmgrEntries = 15;
static_assert(sizeof(ServerSmgr) == kSmgrEntries * sizeof(void*));

inline constexpr const char* kSmgrEntryNames[kSmgrEntries] = {
	"mdinit",     "(null)", "mdopen",  "mdclose",     "mdcreate",  "mdexists",   "mdunlink",    "mdextend",
	"mdprefetch", "mdread", "mdwrite", "mdwriteback", "mdnblocks", "mdtruncate", "mdimmedsync",
};

inline ServerSmgr stock_smgr() noexcept
{
	return {mdinit,     nullptr, mdopen,  mdclose,     mdcreate,  mdexists,   mdunlink,   mdextend,
	        mdprefetch, mdread,  mdwrite, mdwriteback, mdnblocks, mdtruncate, mdimmedsync};
}

// Mirrors the table of sync.c: three functions for each SyncRequestHandler, the last two null but for relation files.
struct ServerSyncOps {
	int (*sync)(const FileTag*, char* path);
	int (*unlink)(const FileTag*, char* path);
	bool (*matches)(const FileTag*, const FileTag* candidate);
};
inline constexpr int kSyncHandlers = SYNC_HANDLER_NONE;
inline constexpr int kSyncEntries = 3 * kSyncHandlers;
struct ServerSync {
	ServerSyncOps handlers[kSyncHandlers];
};
static_assert(SYNC_HANDLER_MD == 0 && kSyncHandlers == 5 && sizeof(ServerSync) == kSyncEntries * sizeof(void*));

inline constexpr const char* kSyncEntryNames[kSyncEntries] = {
	"mdsyncfiletag",
	"mdunlinkfiletag",
	"mdfiletagmatches",
	"clogsyncfiletag",
	"(null)",
	"(null)",
	"committssyncfiletag",
	"(null)",
	"(null)",
	"multixactoffsetssyncfiletag",
	"(null)",
	"(null)",
	"multixactmemberssyncfiletag",
	"(null)",
	"(null)",
};

inline ServerSync stock_sync() noexcept
{
	return {{{mdsyncfiletag, mdunlinkfiletag, mdfiletagmatches},
	         {clogsyncfiletag, nullptr, nullptr},
	         {committssyncfiletag, nullptr, nullptr},
	         {multixactoffsetssyncfiletag, nullptr, nullptr},
	         {multixactmemberssyncfiletag, nullptr, nullptr}}};
}

} // namespace seal::pg
