#include "wal_switch.hpp"

#include "../files/file_seam.hpp"
#include "../registry/registry_store.hpp"
#include "../xlog.hpp"

#include "seal/wal_format.hpp"

extern "C" {
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogprefetcher.h"
#include "access/xlogrecovery.h"
#include "access/xloginsert.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "postmaster/bgwriter.h"
#include "storage/fd.h"
#include "storage/lwlock.h"
#include "utils/guc.h"
}

#include <algorithm>
#include <fcntl.h>
#include <unistd.h>

namespace seal::pg {

namespace {

constexpr uint32 kFillerRecord = 64 * 1024;
constexpr int kReadAheadMost = 4 * 1024 * 1024; // of every server with this library; the server's default is 512 kB

} // namespace

void wal_limit_read_ahead()
{
	if (wal_decode_buffer_size <= kReadAheadMost)
		return;
	ereport(LOG, (errmsg("wal_decode_buffer_size is limited to %d kB", kReadAheadMost / 1024),
	              errdetail("Recovery that read farther ahead could meet WAL under a key that it has not replayed yet.")));
	char value[32];
	snprintf(value, sizeof value, "%dkB", kReadAheadMost / 1024);
	SetConfigOption("wal_decode_buffer_size", value, PGC_POSTMASTER, PGC_S_OVERRIDE);
}

void wal_outrun_read_ahead()
{
	char* const filler = static_cast<char*>(palloc0(kFillerRecord));
	constexpr uint64 wanted = kReadAheadMost + 2 * kFillerRecord; // for servers that replay this, whatever ours reads ahead
	XLogRecPtr end = InvalidXLogRecPtr;
	for (uint64 done = 0; done < wanted; done += kFillerRecord) {
		CHECK_FOR_INTERRUPTS();
		XLogBeginInsert();
		XLogRegisterData(filler, kFillerRecord);
		end = XLogInsert(kRmgrId, kXlogFiller);
	}
	pfree(filler);
	XLogFlush(end);
}

namespace {

enum class FirstPage { none, empty, sealed, plain, foreign };

// How a segment file begins; foreign: in clear, and another segment's.
FirstPage first_page(const char* path, uint64 start)
{
	alignas(8) uint8 page[kWalPageSize];
	const int fd = stock::open(path, O_RDONLY | PG_BINARY, 0);
	if (fd < 0)
		return FirstPage::none;
	const ssize_t got = stock::pread(fd, page, sizeof page, 0);
	stock::close(fd);
	if (got != static_cast<ssize_t>(sizeof page))
		return FirstPage::none;
	if (wal_address(page) == 0)
		return FirstPage::empty;
	if (wal_sealed(wal_info(page)))
		return FirstPage::sealed;
	return wal_address(page) == start ? FirstPage::plain : FirstPage::foreign;
}

} // namespace

void wal_complete_switch()
{
	if (RecoveryInProgress() || wal_active_generation() == 0)
		return;
	bool intact;
	ControlFileData* const control = get_controlfile(DataDir, &intact);
	const XLogRecPtr redo = intact ? control->checkPointCopy.redo : InvalidXLogRecPtr;
	const TimeLineID timeline = control->checkPointCopy.ThisTimeLineID;
	pfree(control);
	if (redo == InvalidXLogRecPtr)
		return;
	XLogSegNo segment;
	char path[MAXPGPATH];
	XLByteToSeg(redo, segment, wal_segment_size);
	XLogFilePath(path, timeline, segment, wal_segment_size);
	if (first_page(path, segment * static_cast<uint64>(wal_segment_size)) != FirstPage::plain)
		return;
	wal_drop_plain_leftovers(false);
	wal_begin_segment();
	ereport(LOG, (errmsg("pg_seal completed the sealing of WAL: the last checkpoint lay in WAL in clear")));
}

void wal_drop_plain_leftovers(bool at_start)
{
	DIR* const directory = AllocateDir(XLOGDIR);
	while (const dirent* entry = ReadDir(directory, XLOGDIR)) {
		if (!IsXLogFileName(entry->d_name))
			continue;
		TimeLineID timeline;
		XLogSegNo segment;
		XLogFromFileName(entry->d_name, &timeline, &segment, wal_segment_size);
		const uint64 start = segment * static_cast<uint64>(wal_segment_size);
		char path[MAXPGPATH];
		snprintf(path, sizeof path, XLOGDIR "/%s", entry->d_name);
		if (!at_start)
			LWLockAcquire(WALWriteLock, LW_EXCLUSIVE); // whoever begins a segment holds it
		if ((at_start || start > GetXLogInsertRecPtr()) && first_page(path, start) == FirstPage::foreign && unlink(path) != 0)
			ereport(WARNING, (errcode_for_file_access(), errmsg("could not remove file \"%s\", which holds WAL in clear: %m", path)));
		if (!at_start)
			LWLockRelease(WALWriteLock);
	}
	FreeDir(directory);
}

uint64 wal_begin_segment()
{
	const XLogRecPtr end = RequestXLogSwitch(false);
	XLogFlush(end);
	RequestCheckpoint(CHECKPOINT_IMMEDIATE | CHECKPOINT_FORCE | CHECKPOINT_WAIT);
	return wal_next_segment_of(end);
}

uint64 wal_next_segment_of(uint64 lsn) noexcept
{
	const uint64 size = static_cast<uint64>(wal_segment_size);
	return (lsn + size - 1) / size * size;
}

uint64 wal_oldest_local_segment()
{
	uint64 oldest = PG_UINT64_MAX;
	DIR* const directory = AllocateDir(XLOGDIR);
	while (const dirent* entry = ReadDir(directory, XLOGDIR)) {
		if (!IsXLogFileName(entry->d_name))
			continue;
		TimeLineID timeline;
		XLogSegNo segment;
		XLogFromFileName(entry->d_name, &timeline, &segment, wal_segment_size);
		oldest = std::min(oldest, segment * static_cast<uint64>(wal_segment_size));
	}
	FreeDir(directory);
	return oldest;
}

} // namespace seal::pg
