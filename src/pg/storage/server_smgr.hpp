// What differs by server version about the storage manager: the shape of smgr.c's private dispatch table and the stock
// functions it holds. The one place to touch when a version is added.
#pragma once

#include "../pg.hpp"

extern "C" {
#include "storage/md.h"
#include "storage/smgr.h"
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
	"mdinit",     "(null)", "mdopen",  "mdclose",     "mdcreate",  "mdexists",   "mdunlink",     "mdextend",
	"mdprefetch", "mdread", "mdwrite", "mdwriteback", "mdnblocks", "mdtruncate", "mdimmedsync",
};

inline ServerSmgr stock_smgr() noexcept
{
	return {mdinit,     nullptr, mdopen,  mdclose,     mdcreate,  mdexists,   mdunlink,   mdextend,
	        mdprefetch, mdread,  mdwrite, mdwriteback, mdnblocks, mdtruncate, mdimmedsync};
}

} // namespace seal::pg
