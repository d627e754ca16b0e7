#include "tablespace_files.hpp"

#include "../keymap/key_file.hpp"
#include "../keymap/keymap.hpp"
#include "operation_board.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_database.h"
#include "catalog/pg_tablespace_d.h"
#include "commands/dbcommands.h"
#include "common/relpath.h"
#include "storage/fd.h"
#include "utils/hsearch.h"
#include "utils/snapmgr.h"
}

#include <cstring>
#include <sys/stat.h>

namespace seal::pg {

namespace {

bool has_directory(Oid database, Oid tablespace)
{
	char* path = GetDatabasePath(database, tablespace);
	struct stat info;
	const bool found = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
	pfree(path);
	return found;
}

// The whole list is copied before anything else is done: its scan holds a buffer pin.
int all_databases(TargetDatabase** out)
{
	int count = 0, room = 16;
	*out = static_cast<TargetDatabase*>(palloc(sizeof(TargetDatabase) * static_cast<Size>(room)));
	const Relation databases = table_open(DatabaseRelationId, AccessShareLock);
	const TableScanDesc scan = table_beginscan_catalog(databases, 0, nullptr);
	while (const HeapTuple tuple = heap_getnext(scan, ForwardScanDirection)) {
		const auto form = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple));
		if (count == room) {
			room *= 2;
			*out = static_cast<TargetDatabase*>(repalloc(*out, sizeof(TargetDatabase) * static_cast<Size>(room)));
		}
		TargetDatabase& database = (*out)[count++];
		database.oid = form->oid;
		strlcpy(database.name, NameStr(form->datname), sizeof database.name);
		database.invalid = database_is_invalid_form(form);
	}
	table_endscan(scan);
	table_close(databases, AccessShareLock);
	return count;
}

struct SealedRelations {
	HTAB* nodes;
	Oid tablespace; // as slots have it: 0 for the database's default
	bool wholly;    // else also those on their way
};

void note_sealed(const KeySlot& slot, void* arg)
{
	const auto* sealed = static_cast<SealedRelations*>(arg);
	const bool on_its_way = slot_in_transition(slot.state);
	bool found;
	if (slot.tablespace == sealed->tablespace && (on_its_way ? !sealed->wholly : slot.form.cipher != CipherId::none))
		(void) hash_search(sealed->nodes, &slot.rel_node, HASH_ENTER, &found);
}

// "16400", "16400_vm", "16400.1", "16400_fsm.2". Not temporary relations ("t3_16400"): they end with their session.
bool relation_file(const char* name, Oid* rel_node)
{
	char* end;
	if (name[0] < '1' || name[0] > '9')
		return false;
	*rel_node = static_cast<Oid>(strtoul(name, &end, 10));
	return *end == '\0' || *end == '_' || *end == '.';
}

uint64 pages_in_directory(Oid database, Oid tablespace, bool sealed_ones)
{
	HASHCTL control = {};
	control.keysize = sizeof(Oid);
	control.entrysize = sizeof(Oid);
	control.hcxt = CurrentMemoryContext;
	const bool is_default = tablespace == GLOBALTABLESPACE_OID || key_file_default_tablespace(database, InvalidOid) == tablespace;
	SealedRelations sealed = {hash_create("pg_seal sealed relations", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT),
	                          is_default ? InvalidOid : tablespace, !sealed_ones};
	keymap_visit(database, note_sealed, &sealed);

	uint64 pages = 0;
	char* directory = GetDatabasePath(database, tablespace);
	DIR* dir = AllocateDir(directory);
	while (dirent* entry = ReadDirExtended(dir, directory, DEBUG1)) { // the database may be dropped meanwhile
		char path[MAXPGPATH * 2];
		Oid rel_node;
		bool is_sealed;
		struct stat info;
		if (!relation_file(entry->d_name, &rel_node))
			continue;
		(void) hash_search(sealed.nodes, &rel_node, HASH_FIND, &is_sealed);
		snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
		if (is_sealed == sealed_ones && stat(path, &info) == 0) // gone meanwhile: not counted
			pages += static_cast<uint64>(info.st_size) / BLCKSZ;
		CHECK_FOR_INTERRUPTS();
	}
	FreeDir(dir);
	pfree(directory);
	hash_destroy(sealed.nodes);
	return pages;
}

} // namespace

int databases_of_tablespace(Oid tablespace, TargetDatabase** out)
{
	TargetDatabase* all;
	const int count = all_databases(&all);
	int kept = 0;
	for (int i = 0; i < count; i++) {
		if (tablespace != GLOBALTABLESPACE_OID) {
			if (has_directory(all[i].oid, tablespace))
				all[kept++] = all[i];
		} else if (!all[i].invalid && !operation_vacated(all[i].oid) && (kept == 0 || strcmp(all[i].name, "postgres") == 0)) {
			all[0] = all[i];
			kept = 1;
		}
	}
	*out = all;
	return kept;
}

uint64 pages_in_tablespace(Oid tablespace, bool sealed)
{
	if (tablespace == GLOBALTABLESPACE_OID)
		return pages_in_directory(InvalidOid, tablespace, sealed);
	TargetDatabase* databases;
	const int count = databases_of_tablespace(tablespace, &databases);
	uint64 pages = 0;
	for (int i = 0; i < count; i++)
		if (!databases[i].invalid)
			pages += pages_in_directory(databases[i].oid, tablespace, sealed);
	pfree(databases);
	return pages;
}

} // namespace seal::pg
