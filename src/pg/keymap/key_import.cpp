#include "key_import.hpp"

#include "../shmem.hpp"
#include "key_draft.hpp"
#include "keymap_store.hpp"

#include "seal/secret.hpp"

extern "C" {
#include "common/relpath.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
}

#include <cstring>
#include <sys/stat.h>

namespace seal::pg {

namespace {

struct ImportKey {
	Oid tablespace, rel_node; // tablespace 0: the database's default
};
struct ImportEntry {
	ImportKey key;
	KeySlot slot;
};

HTAB* records; // of one database: a session of pg_restore stays in its own
Oid records_of = InvalidOid;

HTAB* read_records(Oid database)
{
	HASHCTL control = {};
	control.keysize = sizeof(ImportKey);
	control.entrysize = sizeof(ImportEntry);
	control.hcxt = TopMemoryContext;
	HTAB* found = hash_create("pg_seal import", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	char path[MAXPGPATH];
	snprintf(path, sizeof path, "%s/%u", kKeyImportDirectory, database);
	const int fd = key_file_open(path, false, false);
	if (fd < 0 && errno == ENOENT)
		return found; // the old cluster's database had no sealed relation
	if (fd < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open file \"%s\": %m", path)));
	uint8* page = static_cast<uint8*>(palloc(kPageSize));
	static const uint8 any_id[16] = {};
	const uint32 pages = key_file_pages(fd, path);
	for (uint32 number = 0; number < pages; ++number) {
		key_file_read_page(fd, path, number, page, any_id, ERROR);
		for (std::size_t i = 0; i < kSlotsPerPage; ++i) {
			const KeySlot* slot = key_page_slot(page, i);
			if (slot->state == SlotState::free || slot->dropped_lsn != 0)
				continue;
			const ImportKey key = {slot->tablespace, slot->rel_node};
			bool there;
			auto* entry = static_cast<ImportEntry*>(hash_search(found, &key, HASH_ENTER, &there));
			if (!there || entry->slot.version < slot->version)
				entry->slot = *slot;
		}
	}
	pfree(page);
	key_file_close(fd);
	return found;
}

const KeySlot* find_record(const DatabaseKeys& database, const RelFileNode& node)
{
	if (!records || records_of != node.dbNode) {
		if (records)
			hash_destroy(records);
		records = nullptr;
		records = read_records(node.dbNode);
		records_of = node.dbNode;
	}
	const SlotKey place = slot_key(database, node);
	const ImportKey key = {place.tablespace, place.rel_node};
	const auto* entry = static_cast<const ImportEntry*>(hash_search(records, &key, HASH_FIND, nullptr));
	return entry ? &entry->slot : nullptr;
}

} // namespace

bool key_import_active() noexcept
{
	if (likely(!IsBinaryUpgrade))
		return false;
	static int there = -1;
	struct stat directory;
	if (there < 0)
		there = stat(kKeyImportDirectory, &directory) == 0 && S_ISDIR(directory.st_mode);
	return there == 1;
}

void key_import_relation(const RelFileNode& node)
{
	DatabaseKeys database;
	LWLockAcquire(seal_lock(Lock::keymap_writer), LW_EXCLUSIVE);
	key_drafts_database(node.dbNode, &database);
	LWLockRelease(seal_lock(Lock::keymap_writer));
	const KeySlot* old = find_record(database, node);
	if (!old || (old->form.cipher == CipherId::none && !slot_in_transition(old->state)))
		return;
	if (slot_in_transition(old->state))
		ereport(ERROR,
		        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		         errmsg("relation %s is half-way in a conversion in the old cluster", relpathperm(node, MAIN_FORKNUM)),
		         errhint("Let the operation end in the old cluster, then upgrade.")));
	uint8 seed[kDekSeedSize];
	keymap_seed(node, *old, false, seed); // verifies the record under the keyring that was carried over
	wipe(seed, sizeof seed);

	KeyDraft draft;
	memset(&draft, 0, sizeof draft);
	draft.node = node;
	KeySlot& slot = draft.slot = *old;
	// The old cluster was shut down: every page on its disk is in the newest form.
	slot.state = SlotState::single;
	slot.flags = 0;
	slot.switch_lsn = 0;
	slot.old_form = {};
	slot.old_wrapped_size = 0;
	memset(slot.old_wrapped, 0, sizeof slot.old_wrapped);
	memset(slot.old_key_check, 0, sizeof slot.old_key_check);
	slot.dropped_at = 0;
	slot.record_lsn = 0;
	LWLockAcquire(seal_lock(Lock::keymap_writer), LW_EXCLUSIVE);
	key_drafts_database(node.dbNode, &database);
	key_drafts_write(&database, &draft, 1, false);
	LWLockRelease(seal_lock(Lock::keymap_writer));
}

} // namespace seal::pg
