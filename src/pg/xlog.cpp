#include "xlog.hpp"

#include "guard.hpp"
#include "guc.hpp"
#include "keymap/keymap.hpp"
#include "keymap/transition.hpp"
#include "registry/registry_store.hpp"

extern "C" {
#include "access/rmgr.h"
#include "access/xlog_internal.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
}

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

namespace seal::pg {

namespace {

void rmgr_redo(XLogReaderState* record)
{
	const uint8 info = XLogRecGetInfo(record) & ~XLR_INFO_MASK;
	pg_entry([&] {
		switch (info) {
		case kXlogKeyUpsert: keymap_redo(record); break;
		case kXlogRegistryChange: registry_redo(record); break;
		case kXlogFiller: break;
		default: elog(PANIC, "pg_seal: unknown WAL record type %u", info);
		}
	});
}

const char* rmgr_identify(uint8 info)
{
	switch (info & ~XLR_INFO_MASK) {
	case kXlogKeyUpsert: return "KEY_UPSERT";
	case kXlogRegistryChange: return "REGISTRY_CHANGE";
	case kXlogFiller: return "FILLER";
	}
	return nullptr;
}

void rmgr_desc(StringInfo out, XLogReaderState* record)
{
	const uint8 info = XLogRecGetInfo(record) & ~XLR_INFO_MASK;
	if (info == kXlogKeyUpsert)
		keymap_describe(out, XLogRecGetData(record), XLogRecGetDataLen(record));
	else
		appendStringInfo(out, "%u bytes", XLogRecGetDataLen(record));
}

// The end of redo, when every relation that recovery met must have found its key or have been dropped.
void rmgr_cleanup()
{
	RelFileNode lost;
	if (!transition_reclaim_all(&lost))
		ereport(PANIC, (errcode(ERRCODE_DATA_CORRUPTED),
		                errmsg("recovery ended without the key of relation %u/%u/%u", lost.spcNode, lost.dbNode, lost.relNode),
		                errhint("The key file \"%s\" of that database is older than its data. Restore both from the same backup.",
		                        kKeyFileName)));
	keymap_recovery_ended();
}

const RmgrData kRmgr = {
	.rm_name = "pg_seal",
	.rm_redo = rmgr_redo,
	.rm_desc = rmgr_desc,
	.rm_identify = rmgr_identify,
	.rm_startup = nullptr,
	.rm_cleanup = rmgr_cleanup,
	.rm_mask = nullptr,
	.rm_decode = nullptr,
};

} // namespace

void register_rmgr()
{
	static RmgrData rmgr = kRmgr;
	RegisterCustomRmgr(kRmgrId, &rmgr);
}

uint64 completed_redo_start()
{
	bool intact;
	ControlFileData* control = get_controlfile(DataDir, &intact);
	const XLogRecPtr redo = intact ? control->checkPointCopy.redo : InvalidXLogRecPtr;
	pfree(control);
	return redo;
}

bool crash_point(const char* name) noexcept
{
	static int passages = 0; // for "name:number"
	if (!guc_crash_point || guc_crash_point[0] == '\0')
		return false;
	const std::size_t size = strlen(name);
	if (strncmp(guc_crash_point, name, size) != 0)
		return false;
	if (guc_crash_point[size] == '\0')
		kill(getpid(), SIGKILL);
	if (guc_crash_point[size] != ':')
		return false;
	const char* const suffix = guc_crash_point + size + 1;
	if (strcmp(suffix, "enospc") == 0) {
		errno = ENOSPC;
		return true;
	}
	if (++passages == atoi(suffix))
		kill(getpid(), SIGKILL);
	return false;
}

} // namespace seal::pg
