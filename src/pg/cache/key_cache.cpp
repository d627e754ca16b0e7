#include "key_cache.hpp"

#include "../keymap/keymap.hpp"
#include "../keymap/transition.hpp"
#include "../guard.hpp"
#include "../guc.hpp"
#include "../registry/registry_store.hpp"
#include "../storage/page_seal.hpp"
#include "../vault/vault.hpp"
#include "temp_keys.hpp"

#include "seal/secret.hpp"

extern "C" {
#include "access/xlog.h"
#include "storage/ipc.h"
}

#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <new>
#include <unistd.h>

namespace seal::pg {

namespace {

// 8-way set-associative: a set's tags share half a cache line, so a hit costs one line of tags and one entry.
constexpr int kWays = 8;
struct Set {
	uint32 tags[kWays]; // hash of the relation, 0: free
};
Set* sets = nullptr;
CachedKey* entries = nullptr; // kWays per set
uint32 set_mask = 0;
int cache_pid = 0;
CachedKey* last = nullptr;

inline uint32 hash_of(const RelFileNodeBackend& r) noexcept
{
	uint64 h = (uint64{r.node.relNode} << 32 | r.node.spcNode) * 0x9E3779B97F4A7C15ull;
	h ^= (uint64{r.node.dbNode} << 32 | static_cast<uint32>(r.backend)) * 0xC2B2AE3D27D4EB4Full;
	return static_cast<uint32>(h ^ h >> 32) | 1; // bit 0 says that the way is used
}

inline uint32 set_of(uint32 tag) noexcept { return tag >> 1 & set_mask; }

inline bool same(const RelFileNodeBackend& a, const RelFileNodeBackend& b) noexcept
{
	return a.node.relNode == b.node.relNode && a.node.dbNode == b.node.dbNode && a.node.spcNode == b.node.spcNode &&
	       a.backend == b.backend;
}

void release(CachedKey* entry) noexcept
{
	entry->cipher = PageCipher();
	entry->old_cipher = PageCipher();
	entry->in_use = false;
	if (last == entry)
		last = nullptr;
}

void wipe_all(int, Datum)
{
	if (cache_pid != MyProcPid)
		return;
	for (uint32 i = 0; i < (set_mask + 1) * kWays; ++i)
		if (entries[i].in_use)
			release(&entries[i]);
	temp_keys_wipe();
}

void make_cache()
{
	uint32 count = 1;
	while (count * kWays < static_cast<uint32>(guc_key_cache_size))
		count *= 2;
	Set* new_sets = static_cast<Set*>(calloc(count, sizeof(Set)));
	CachedKey* new_entries = static_cast<CachedKey*>(calloc(std::size_t{count} * kWays, sizeof(CachedKey)));
	if (!new_sets || !new_entries) {
		free(new_sets);
		free(new_entries);
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory for the key cache"),
		                errhint("Lower pg_seal.key_cache_size.")));
	}
	sets = new_sets;
	entries = new_entries;
	set_mask = count - 1;
	cache_pid = MyProcPid;
	on_proc_exit(wipe_all, 0);
}

// Does block 0 of the main fork on disk carry the marker? Asked when the keymap knows no key: a relation that lost its record
// must never be taken for a plain one and get plain pages.
bool first_page_sealed(const RelFileNode& node)
{
	char* path = relpathperm(node, MAIN_FORKNUM);
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	pfree(path);
	if (fd < 0) {
		if (errno == ENOENT || errno == ENOTDIR)
			return false; // not there yet: nothing to protect
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open relation %u of database %u: %m", node.relNode, node.dbNode)));
	}
	alignas(8) uint8 header[kPageHeaderSize];
	const ssize_t got = pread(fd, header, sizeof header, 0);
	close(fd);
	return got == static_cast<ssize_t>(sizeof header) && page_looks_sealed(header);
}

void ready_cipher(PageCipher& cipher, CipherId id, uint8 seed[kDekSeedSize])
{
	const bool ok = cipher.init(id, seed);
	wipe(seed, kDekSeedSize);
	if (!ok)
		ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION), errmsg("the cryptographic library refused a page cipher"),
		                errhint("Check that the OpenSSL provider offers AES-XTS and HKDF.")));
}

void load_throwaway(CachedKey* entry)
{
	const RelationId id = relation_id(entry->rnode.node);
	uint8 seed[kDekSeedSize];
	if (!vault_throwaway(id, seed))
		ereport(PANIC, (errmsg("recovery met too many sealed relations whose keys are missing"),
		                errhint("Restore the key files (\"%s\") from the same backup as the data.", kKeyFileName)));
	entry->form = {CipherId::aes_256_xts, 0};
	ready_cipher(entry->cipher, CipherId::aes_256_xts, seed);
	entry->kind = CachedKey::throwaway;
}

// No key. A record that says "plain" comes here too: it carries no MAC, so what is on disk has the last word.
void load_absent(CachedKey* entry)
{
	entry->kind = first_page_sealed(entry->rnode.node) ? CachedKey::missing : CachedKey::plain;
	if (RecoveryInProgress() && vault_throwaway_exists(relation_id(entry->rnode.node)))
		load_throwaway(entry);
}

void load(CachedKey* entry)
{
	const RelFileNode& node = entry->rnode.node;
	uint8 seed[kDekSeedSize];
	entry->state = SlotState::single;
	entry->old_form = {CipherId::none, 0};
	entry->switch_lsn = entry->record_lsn = 0;
	entry->unlogged = false;
	entry->transition = nullptr;

	if (RelFileNodeBackendIsTemp(entry->rnode)) {
		entry->kind = CachedKey::plain;
		if (temp_keys_find(entry->rnode, &entry->form, seed)) {
			ready_cipher(entry->cipher, entry->form.cipher, seed);
			entry->kind = CachedKey::sealed;
		}
		return;
	}
	KeySlot slot;
	if (keymap_find(node, &slot) == Lookup::absent) {
		load_absent(entry);
		return;
	}
	const bool any_key = slot_cipher(slot) != CipherId::none;
	// Redo can meet a relation whose drop, and then its keyring's, come later in the WAL.
	if (RecoveryInProgress() && any_key && !keyring_state(slot.keyring_id).exists) {
		entry->kind = CachedKey::missing;
		if (vault_throwaway_exists(relation_id(node)))
			load_throwaway(entry);
		return;
	}
	entry->state = slot.state;
	entry->form = slot.form;
	entry->old_form = slot.old_form;
	entry->switch_lsn = slot.switch_lsn;
	entry->record_lsn = slot.record_lsn;
	entry->unlogged = (slot.flags & kSlotUnlogged) != 0;
	if (entry->in_transition())
		entry->transition = transition_entry(node);
	if (slot.form.cipher != CipherId::none) {
		keymap_seed(node, slot, false, seed);
		ready_cipher(entry->cipher, slot.form.cipher, seed);
	}
	if (slot.state != SlotState::single && slot.old_form.cipher != CipherId::none) {
		keymap_seed(node, slot, true, seed);
		ready_cipher(entry->old_cipher, slot.old_form.cipher, seed);
	}
	if (any_key)
		entry->kind = CachedKey::sealed;
	else
		load_absent(entry);
}

CachedKey* find_or_claim(const RelFileNodeBackend& rnode, uint32 tag)
{
	Set& set = sets[set_of(tag)];
	CachedKey* const ways = &entries[std::size_t{set_of(tag)} * kWays];
	int victim = -1;
	for (int i = 0; i < kWays; ++i) {
		if (set.tags[i] == tag && ways[i].in_use && same(ways[i].rnode, rnode))
			return &ways[i];
		if (!ways[i].in_use && victim < 0)
			victim = i;
	}
	// Second chance within the set: the first way not used since the last sweep, else the one the tag points at.
	for (int i = 0; victim < 0 && i < kWays; ++i) {
		if (!ways[i].recently_used)
			victim = i;
		else
			ways[i].recently_used = false;
	}
	if (victim < 0)
		victim = static_cast<int>(tag >> 16) % kWays;
	if (ways[victim].in_use)
		release(&ways[victim]);
	set.tags[victim] = tag;
	new (&ways[victim]) CachedKey();
	ways[victim].rnode = rnode;
	return &ways[victim];
}

CachedKey* get_slow(const RelFileNodeBackend& rnode)
{
	if (unlikely(!sets || cache_pid != MyProcPid))
		make_cache();
	CachedKey* entry = find_or_claim(rnode, hash_of(rnode));
	const uint32 epoch = keymap_epoch(rnode.node); // before the lookup: a change in between makes the entry stale, not wrong
	if (!entry->in_use || entry->epoch != epoch) {
		if (entry->in_use)
			release(entry);
		load(entry);
		entry->epoch = epoch;
		entry->in_use = true;
	}
	entry->recently_used = true;
	last = entry;
	return entry;
}

} // namespace

void key_cache_take_throwaway(CachedKey* key)
{
	load_throwaway(key);
}

PageCipher* key_cache_throwaway_cipher(const RelFileNode& node)
{
	static PageCipher cipher;
	uint8 seed[kDekSeedSize];
	if (!vault_throwaway_exists(relation_id(node)) || !vault_throwaway(relation_id(node), seed))
		return nullptr;
	ready_cipher(cipher, CipherId::aes_256_xts, seed);
	return &cipher;
}

CachedKey* key_cache_get(const RelFileNodeBackend& rnode)
{
	if (likely(last && same(last->rnode, rnode) && last->epoch == keymap_epoch(rnode.node)))
		return last;
	return get_slow(rnode);
}

namespace {
void forget(const RelFileNodeBackend& rnode) noexcept
{
	if (!sets || cache_pid != MyProcPid)
		return;
	CachedKey* const ways = &entries[std::size_t{set_of(hash_of(rnode))} * kWays];
	for (int i = 0; i < kWays; ++i)
		if (ways[i].in_use && same(ways[i].rnode, rnode))
			release(&ways[i]);
}
} // namespace

void key_cache_temp_created(const RelFileNodeBackend& rnode, CipherId cipher)
{
	forget(rnode);
	if (cipher == CipherId::none)
		temp_keys_remove(rnode);
	else
		temp_keys_add(rnode, cipher);
}

void key_cache_temp_dropped(const RelFileNodeBackend& rnode) noexcept
{
	forget(rnode);
	temp_keys_remove(rnode);
}

} // namespace seal::pg
