#include "smgr_seal.hpp"

#include "../cache/key_cache.hpp"
#include "../ddl/require_encryption.hpp"
#include "../guard.hpp"
#include "../keymap/key_import.hpp"
#include "../keymap/keymap.hpp"
#include "../keymap/transition.hpp"
#include "../registry/registry_store.hpp"
#include "../shmem.hpp"
#include "page_seal.hpp"

namespace seal::pg {

namespace {

ServerSmgr md; // the stock functions

enum ProbeBit : unsigned { probe_create = 1, probe_read = 2, probe_write = 4, probe_extend = 8 };
constexpr unsigned kProbeAll = 15;
bool probing = false;
unsigned probed = 0;

// True in probe mode: the call is noted and must do nothing.
inline bool noted(ProbeBit bit) noexcept
{
	if (likely(!probing))
		return false;
	probed |= bit;
	return true;
}

// Where a sealed page is built before it is written. One process writes one page at a time.
alignas(4096) uint8 sealed_page[kPageSize];

// The destination's policy decides. The key exists before the file does; a file that exists already keeps its key, and
// md.c then raises its own error.
void prepare_key(SMgrRelation reln)
{
	const RelFileNode& node = reln->smgr_rnode.node;
	if (md.exists(reln, MAIN_FORKNUM))
		return;
	if (unlikely(key_import_active()) && !SmgrIsTemp(reln)) {
		key_import_relation(node);
		return;
	}
	SealPolicy policy = policy_of_tablespace(node.spcNode);
	if (SmgrIsTemp(reln)) {
		key_cache_temp_created(reln->smgr_rnode, policy.sealed ? policy.cipher : CipherId::none);
		return;
	}
	if (!policy.sealed) {
		check_plain_creation(node.spcNode);
		policy = policy_of_tablespace(node.spcNode); // looking names up may serve a process barrier: nothing after this does
	}
	KeySlot old;
	if (policy.sealed)
		keymap_create(node, policy.keyring_id, policy.cipher);
	else if (keymap_find(node, &old) == Lookup::found && (slot_cipher(old) != CipherId::none || old.state != SlotState::single))
		keymap_create(node, 0, CipherId::none); // a dropped relation of this number was sealed: say that this one is plain
}

const uint8* page_to_write(CachedKey* key, PageForm form, const char* buffer, ForkNumber fork, BlockNumber block)
{
	const uint8* plain = reinterpret_cast<const uint8*>(buffer);
	return page_seal(*key, form, plain, sealed_page, fork, block) ? sealed_page : plain;
}

using WriteFunction = void (*)(SMgrRelation, ForkNumber, BlockNumber, char*, bool);

void write_page(WriteFunction write, SMgrRelation reln, ForkNumber fork, BlockNumber block, const uint8* page, bool skip_fsync)
{
	write(reln, fork, block, reinterpret_cast<char*>(const_cast<uint8*>(page)), skip_fsync);
}

// A page of a relation in transition. Who writes an old form holds Lock::transition and has looked at the record once more, so that
// whoever begins or ends a transition (exclusively) knows that no such write is under way, and how many there have been.
void write_in_transition(WriteFunction write, SMgrRelation reln, ForkNumber fork, BlockNumber block, const char* buffer, bool skip_fsync)
{
	for (;;) {
		CachedKey* key = key_cache_get(reln->smgr_rnode);
		const PageForm form = page_form(*key, reinterpret_cast<const uint8*>(buffer), fork);
		if (form == PageForm::current) {
			write_page(write, reln, fork, block, page_to_write(key, form, buffer, fork, block), skip_fsync);
			return;
		}
		LWLockAcquire(seal_lock(Lock::transition), LW_SHARED);
		if (key->epoch == keymap_epoch(key->rnode.node)) {
			if (!key->transition) // the table was full when the entry was cached
				key->transition = transition_find_locked(key->rnode.node);
			if (key->transition && !page_is_zero(reinterpret_cast<const uint8*>(buffer)))
				pg_atomic_fetch_add_u64(&key->transition->old_writes, 1);
			write_page(write, reln, fork, block, page_to_write(key, form, buffer, fork, block), skip_fsync);
			LWLockRelease(seal_lock(Lock::transition));
			return;
		}
		LWLockRelease(seal_lock(Lock::transition));
	}
}

// The way of every page to disk. A record that changed while the page was being written is looked at once more: a page that goes past the buffers (an
// extension of a map or a hash index) is held by no lock that a sweep would wait for.
inline void seal_and_write(WriteFunction write, SMgrRelation reln, ForkNumber fork, BlockNumber block, char* buffer, bool skip_fsync)
{
	for (;;) {
		CachedKey* key = key_cache_get(reln->smgr_rnode);
		const uint32 epoch = key->epoch;
		if (key->kind == CachedKey::plain)
			write(reln, fork, block, buffer, skip_fsync);
		else if (unlikely(key->in_transition()))
			write_in_transition(write, reln, fork, block, buffer, skip_fsync);
		else
			write_page(write, reln, fork, block, page_to_write(key, PageForm::current, buffer, fork, block), skip_fsync);
		if (likely(epoch == keymap_epoch(reln->smgr_rnode.node)))
			return;
		write = md.write;
	}
}

void seal_create(SMgrRelation reln, ForkNumber fork, bool is_redo)
{
	if (noted(probe_create))
		return;
	if (fork == MAIN_FORKNUM && !is_redo)
		pg_entry([&] { prepare_key(reln); });
	md.create(reln, fork, is_redo);
}

void seal_unlink(RelFileNodeBackend rnode, ForkNumber fork, bool is_redo)
{
	md.unlink(rnode, fork, is_redo);
	if (fork != MAIN_FORKNUM && fork != InvalidForkNumber)
		return;
	if (RelFileNodeBackendIsTemp(rnode))
		key_cache_temp_dropped(rnode);
	else
		keymap_tombstone(rnode.node, is_redo);
}

void seal_read(SMgrRelation reln, ForkNumber fork, BlockNumber block, char* buffer)
{
	if (noted(probe_read))
		return;
	md.read(reln, fork, block, buffer);
	page_open(key_cache_get(reln->smgr_rnode), reln->smgr_rnode, reinterpret_cast<uint8*>(buffer), fork, block);
}

void seal_write(SMgrRelation reln, ForkNumber fork, BlockNumber block, char* buffer, bool skip_fsync)
{
	if (noted(probe_write))
		return;
	seal_and_write(md.write, reln, fork, block, buffer, skip_fsync);
}

void seal_extend(SMgrRelation reln, ForkNumber fork, BlockNumber block, char* buffer, bool skip_fsync)
{
	if (noted(probe_extend))
		return;
	seal_and_write(md.extend, reln, fork, block, buffer, skip_fsync);
}

} // namespace

ServerSmgr sealing_smgr(const ServerSmgr& stock) noexcept
{
	md = stock;
	ServerSmgr ours = stock;
	ours.create = seal_create;
	ours.unlink = seal_unlink;
	ours.read = seal_read;
	ours.write = seal_write;
	ours.extend = seal_extend;
	return ours;
}

void smgr_probe_begin() noexcept
{
	probed = 0;
	probing = true;
}

unsigned smgr_probe_end() noexcept
{
	probing = false;
	return kProbeAll & ~probed;
}

} // namespace seal::pg
