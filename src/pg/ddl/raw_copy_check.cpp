#include "raw_copy_check.hpp"

#include "../keymap/key_file.hpp"
#include "../keymap/keymap.hpp"
#include "../registry/registry_store.hpp"

extern "C" {
#include "commands/tablespace.h"
#include "common/relpath.h"
#include "storage/fd.h"
#include "utils/hsearch.h"
}

#include <cstring>

namespace seal::pg {

namespace {

struct SealedSet {
	HTAB* rel_nodes; // relations of the default tablespace that are sealed under the wanted keyring
	uint32 keyring_id;
	int other; // sealed under another keyring
};

void note_slot(const KeySlot& slot, void* arg)
{
	auto* set = static_cast<SealedSet*>(arg);
	if (slot.tablespace != 0 || slot.form.cipher == CipherId::none)
		return;
	if (slot.keyring_id != set->keyring_id) {
		++set->other;
		return;
	}
	bool found;
	(void)hash_search(set->rel_nodes, &slot.rel_node, HASH_ENTER, &found);
}

// A main fork's first segment: digits alone.
bool is_main_fork(const char* name, Oid* rel_node)
{
	if (name[0] == '\0' || strspn(name, "0123456789") != strlen(name))
		return false;
	*rel_node = static_cast<Oid>(strtoul(name, nullptr, 10));
	return true;
}

int count_plain_files(const char* directory, HTAB* sealed)
{
	int plain = 0;
	DIR* dir = AllocateDir(directory);
	while (dirent* entry = ReadDir(dir, directory)) {
		Oid rel_node;
		bool found;
		if (!is_main_fork(entry->d_name, &rel_node))
			continue;
		(void)hash_search(sealed, &rel_node, HASH_FIND, &found);
		plain += !found;
	}
	FreeDir(dir);
	return plain;
}

} // namespace

void check_raw_copy(Oid database, const char* database_name, Oid destination, const char* hint)
{
	const SealPolicy policy = policy_of_tablespace(destination);
	HASHCTL control = {};
	control.keysize = sizeof(Oid);
	control.entrysize = sizeof(Oid);
	control.hcxt = CurrentMemoryContext;
	SealedSet set = {hash_create("pg_seal raw copy", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT), policy.sealed ? policy.keyring_id : 0, 0};
	keymap_visit(database, note_slot, &set);

	if (!policy.sealed) {
		if (set.other > 0)
			ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			                errmsg("database \"%s\" has sealed relations, and the destination tablespace is not sealed", database_name),
			                errdetail("%d relations would be copied as they are and stay sealed.", set.other), errhint("%s", hint)));
	} else {
		char* directory = GetDatabasePath(database, key_file_default_tablespace(database, InvalidOid));
		const int plain = count_plain_files(directory, set.rel_nodes) - set.other;
		if (plain > 0 || set.other > 0)
			ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			                errmsg("database \"%s\" has relations that are not sealed as the destination tablespace demands", database_name),
			                errdetail("%d relations are plain and %d are sealed under another keyring; a raw copy would leave them so.",
			                          Max(plain, 0), set.other),
			                errhint("%s", hint)));
	}
	hash_destroy(set.rel_nodes);
}

} // namespace seal::pg
