#include "sweep.hpp"

#include "../operations/operation_shared.hpp"
#include "disk_form.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "catalog/pg_class_d.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "storage/lmgr.h"
#include "storage/smgr.h"
#include "utils/rel.h"
}

namespace seal::pg {

namespace {

constexpr int kPatience = 20;         // attempts to lock a relation ...
constexpr long kPatiencePause = 50 * 1000; // ... us apart

// The init fork first: a crash resets the main fork of an unlogged relation from it.
constexpr ForkNumber kForks[] = {INIT_FORKNUM, MAIN_FORKNUM, FSM_FORKNUM, VISIBILITYMAP_FORKNUM};
constexpr int kForkCount = 4;
constexpr int kReadOnlyShare = 8;     // a page that is only read counts an eighth of one that is written
constexpr uint32 kImageOverhead = 60; // bytes of WAL beside a page image

// Free space and visibility maps are mended by their readers: a damaged page of them is emptied.
bool is_map(ForkNumber fork) noexcept { return fork == FSM_FORKNUM || fork == VISIBILITYMAP_FORKNUM; }

// A sequence's WAL record is ahead of its page: it says what the page will say when the values that need no record of their own are used up. An
// image of the page would take that back on replay, and those values would be handed out once more. So none are left: the next one is logged.
void log_next_value(Page page)
{
	if (PageGetMaxOffsetNumber(page) < FirstOffsetNumber || !ItemIdIsNormal(PageGetItemId(page, FirstOffsetNumber)))
		return;
	char* const tuple = PageGetItem(page, PageGetItemId(page, FirstOffsetNumber));
	const uint8 data = reinterpret_cast<HeapTupleHeader>(tuple)->t_hoff;
	reinterpret_cast<Form_pg_sequence_data>(tuple + data)->log_cnt = 0;
}

void sweep_page(Relation relation, ForkNumber fork, BlockNumber block, bool logged, BufferAccessStrategy strategy)
{
	const Buffer buffer = ReadBufferExtended(relation, fork, block, is_map(fork) ? RBM_ZERO_ON_ERROR : RBM_NORMAL, strategy);
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	if (!PageIsNew(BufferGetPage(buffer))) {
		START_CRIT_SECTION();
		MarkBufferDirty(buffer);
		if (logged && relation->rd_rel->relkind == RELKIND_SEQUENCE && fork == MAIN_FORKNUM)
			log_next_value(BufferGetPage(buffer));
		if (logged)
			(void)log_newpage_buffer(buffer, false); // whole: old metapages hold data behind pd_lower
		END_CRIT_SECTION();
		if (logged)
			pg_atomic_fetch_add_u64(&operation_shared()->wal_bytes, BLCKSZ + kImageOverhead);
	} else if (is_map(fork))
		MarkBufferDirty(buffer); // read as zeroes from a damaged page: put zeroes on disk
	UnlockReleaseBuffer(buffer);
}

struct Place { // how far a pass has come
	int fork = 0;
	BlockNumber block = 0;
};

struct Blocks {
	BlockNumber numbers[1024];
	int count = 0;
};

void note_block(BlockNumber block, void* arg)
{
	auto* blocks = static_cast<Blocks*>(arg);
	blocks->numbers[blocks->count++] = block;
}

// Null: gone (then *result says so) or busy.
Relation lock_and_open(const WorkRelation& wanted, SweepResult* result)
{
	*result = SweepResult::busy;
	for (int attempt = 0; !ConditionalLockRelationOid(wanted.relation, AccessShareLock); ++attempt) {
		if (attempt == kPatience)
			return nullptr;
		pg_usleep(kPatiencePause);
		CHECK_FOR_INTERRUPTS();
	}
	*result = SweepResult::gone;
	const Relation relation = try_relation_open(wanted.relation, NoLock);
	if (relation && RelFileNodeEquals(relation->rd_node, wanted.node))
		return relation;
	if (relation)
		relation_close(relation, NoLock);
	return nullptr;
}

// Takes up to `budget` pages from `place` on; returns how many it looked at.
int sweep_piece(Relation relation, const WorkRelation& work, const SweepOrder& order, int budget, BufferAccessStrategy strategy, Place* place,
                uint64* found)
{
	int taken = 0;
	while (place->fork < kForkCount && taken < budget) {
		const ForkNumber fork = kForks[place->fork];
		const bool exists = smgrexists(RelationGetSmgr(relation), fork);
		const BlockNumber blocks = exists ? smgrnblocks(RelationGetSmgr(relation), fork) : 0;
		if (place->block >= blocks) {
			++place->fork;
			place->block = 0;
			continue;
		}
		const bool logged = !work.unlogged || fork == INIT_FORKNUM;
		const BlockNumber end = Min(blocks, place->block + static_cast<BlockNumber>(budget - taken));
		if (order.pages == SweepPages::all) {
			for (BlockNumber block = place->block; block < end; ++block)
				sweep_page(relation, fork, block, logged, strategy);
		} else {
			Blocks old;
			(void)disk_blocks_not_in_form(work.node, fork, place->block, end, order.wanted, note_block, &old);
			for (int i = 0; i < old.count; ++i)
				sweep_page(relation, fork, old.numbers[i], logged, strategy);
			*found += static_cast<uint64>(old.count);
		}
		taken += static_cast<int>(end - place->block);
		place->block = end;
	}
	return taken;
}

} // namespace

SweepResult sweep_relation(const WorkRelation& work, const SweepOrder& order, Throttle* throttle, uint64* found)
{
	// A ring keeps the sweep from emptying the buffers of others. Not the small one that bulk reads and VACUUM use: its pages would
	// wait for a WAL flush each time round.
	const BufferAccessStrategy strategy = GetAccessStrategy(BAS_BULKWRITE);
	SweepResult result = SweepResult::done;
	Place place;
	while (place.fork < kForkCount) {
		if (operation_stop_request(order.database) == StopRequest::leave) {
			result = SweepResult::stopped;
			break;
		}
		StartTransactionCommand();
		const Relation relation = lock_and_open(work, &result);
		if (!relation) {
			CommitTransactionCommand();
			break;
		}
		const uint64 found_before = *found;
		const int taken = sweep_piece(relation, work, order, Min(throttle->piece(), 1024), strategy, &place, found);
		relation_close(relation, NoLock);
		CommitTransactionCommand(); // releases the lock
		result = SweepResult::done;
		if (order.counts)
			pg_atomic_fetch_add_u64(&operation_shared()->pages_done, static_cast<uint64>(taken));
		throttle->pause(order.counts ? taken : taken / kReadOnlyShare + static_cast<int>(*found - found_before));
	}
	FreeAccessStrategy(strategy);
	return result;
}

} // namespace seal::pg
