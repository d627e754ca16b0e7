#include "work_list.hpp"

#include "../relations/relation_storage.hpp"
#include "disk_form.hpp"

extern "C" {
#include "catalog/pg_tablespace_d.h"
#include "common/relpath.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/hsearch.h"
}

#include <cstring>

namespace seal::pg {

namespace {

bool record_wanted(const RelFileNode& node, bool sealed, bool begun_only)
{
	KeySlot slot;
	const bool found = keymap_find(node, &slot) == Lookup::found;
	if (begun_only)
		return found && slot.dropped_lsn == 0 && slot_in_transition(slot.state);
	return transition_wanted(found ? &slot : nullptr, sealed);
}

Oid database_of(Oid tablespace) { return tablespace == GLOBALTABLESPACE_OID ? InvalidOid : MyDatabaseId; }

// A main fork's first segment: digits alone.
bool is_main_fork(const char* name, Oid* rel_node)
{
	if (name[0] == '\0' || strspn(name, "0123456789") != strlen(name))
		return false;
	*rel_node = static_cast<Oid>(strtoul(name, nullptr, 10));
	return true;
}

} // namespace

int list_work(Oid tablespace, bool sealed, bool begun_only, WorkRelation** out)
{
	RelationStorage* all;
	const int count = relations_in_tablespace(tablespace, &all);
	*out = static_cast<WorkRelation*>(palloc_extended(sizeof(WorkRelation) * static_cast<Size>(Max(count, 1)), MCXT_ALLOC_HUGE));
	int left = 0;
	for (int i = 0; i < count; ++i) {
		const RelationStorage& storage = all[i];
		if (storage.backend != InvalidBackendId || storage.other_session || !record_wanted(storage.node, sealed, begun_only))
			continue;
		WorkRelation& work = (*out)[left++];
		work = {storage.relation, storage.node, storage.unlogged, 0};
		for (int fork = 0; fork <= MAX_FORKNUM; ++fork)
			work.blocks += disk_blocks(storage.node, static_cast<ForkNumber>(fork));
		CHECK_FOR_INTERRUPTS();
	}
	pfree(all);
	return left;
}

void count_stray_files(Oid tablespace, bool sealed, StrayFiles* out)
{
	memset(out, 0, sizeof *out);
	RelationStorage* all;
	const int count = relations_in_tablespace(tablespace, &all);
	HASHCTL control = {};
	control.keysize = control.entrysize = sizeof(Oid);
	control.hcxt = CurrentMemoryContext;
	HTAB* known = hash_create("pg_seal known files", Max(count, 16), &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (int i = 0; i < count; ++i)
		(void)hash_search(known, &all[i].node.relNode, HASH_ENTER, nullptr);
	pfree(all);

	char* directory = GetDatabasePath(database_of(tablespace), tablespace);
	DIR* dir = AllocateDir(directory);
	while (dirent* entry = dir ? ReadDirExtended(dir, directory, LOG) : nullptr) {
		RelFileNode node = {.spcNode = tablespace, .dbNode = database_of(tablespace), .relNode = InvalidOid};
		if (!is_main_fork(entry->d_name, &node.relNode) || hash_search(known, &node.relNode, HASH_FIND, nullptr) ||
		    !record_wanted(node, sealed, false))
			continue;
		++out->all;
		if (disk_blocks(node, MAIN_FORKNUM) > 0 && out->with_pages++ == 0)
			snprintf(out->example, sizeof out->example, "%s/%s", directory, entry->d_name);
		CHECK_FOR_INTERRUPTS();
	}
	if (dir)
		FreeDir(dir);
	hash_destroy(known);
}

} // namespace seal::pg
