#include "smgr_seal.hpp"

#include "../cache/key_cache.hpp"
#include "../guard.hpp"
#include "../keymap/keymap.hpp"
#include "../registry/registry_store.hpp"
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
	const SealPolicy policy = policy_of_tablespace(node.spcNode);
	if (SmgrIsTemp(reln)) {
		key_cache_temp_created(reln->smgr_rnode, policy.sealed ? policy.cipher : CipherId::none);
		return;
	}
	KeySlot old;
	if (policy.sealed)
		keymap_create(node, policy.keyring_id, policy.cipher);
	else if (keymap_find(node, &old) == Lookup::found && old.form.cipher != CipherId::none)
		keymap_create(node, 0, CipherId::none); // a dropped relation of this number was sealed: say that this one is plain
}

const uint8* page_to_write(SMgrRelation reln, ForkNumber fork, BlockNumber block, const char* buffer)
{
	const uint8* plain = reinterpret_cast<const uint8*>(buffer);
	CachedKey* key = key_cache_get(reln->smgr_rnode);
	if (key->kind == CachedKey::plain)
		return plain;
	return page_seal(*key, plain, sealed_page, fork, block) ? sealed_page : plain;
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
	const uint8* page = page_to_write(reln, fork, block, buffer);
	md.write(reln, fork, block, reinterpret_cast<char*>(const_cast<uint8*>(page)), skip_fsync);
}

void seal_extend(SMgrRelation reln, ForkNumber fork, BlockNumber block, char* buffer, bool skip_fsync)
{
	if (noted(probe_extend))
		return;
	const uint8* page = page_to_write(reln, fork, block, buffer);
	md.extend(reln, fork, block, reinterpret_cast<char*>(const_cast<uint8*>(page)), skip_fsync);
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
