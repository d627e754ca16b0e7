#include "relation_storage.hpp"

#include "../cache/temp_keys.hpp"
#include "../keymap/keymap.hpp"

#include "seal/page_cipher.hpp"
#include "seal/secret.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_tablespace_d.h"
#include "common/relpath.h"
#include "storage/fd.h"
#include "utils/relmapper.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
}

#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace seal::pg {

namespace {

bool storage_of(HeapTuple tuple, RelationStorage* out)
{
	const auto form = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple));
	if (!RELKIND_HAS_STORAGE(form->relkind))
		return false;
	memset(out, 0, sizeof *out);
	out->relation = form->oid;
	out->kind = form->relkind;
	out->catalog = IsCatalogRelationOid(form->oid) || IsCatalogNamespace(form->relnamespace);
	out->node.spcNode = OidIsValid(form->reltablespace) ? form->reltablespace : MyDatabaseTableSpace;
	out->node.dbNode = out->node.spcNode == GLOBALTABLESPACE_OID ? InvalidOid : MyDatabaseId;
	out->node.relNode =
		OidIsValid(form->relfilenode) ? form->relfilenode : RelationMapOidToFilenode(form->oid, form->relisshared);
	out->unlogged = form->relpersistence == RELPERSISTENCE_UNLOGGED;
	out->backend = InvalidBackendId;
	if (form->relpersistence == RELPERSISTENCE_TEMP) {
		out->other_session = !isTempOrTempToastNamespace(form->relnamespace);
		out->backend = out->other_session ? GetTempNamespaceBackendId(form->relnamespace) : BackendIdForTempRelations();
	}
	return OidIsValid(out->node.relNode);
}

void count_chunk(const uint8* pages, int count, PageCounts* out)
{
	for (int i = 0; i < count; i++) {
		const uint8* page = pages + static_cast<std::size_t>(i) * kPageSize;
		uint16 flags;
		memcpy(&flags, page + kPageFlagsOffset, sizeof flags);
		out->total++;
		if (flags_sealed(flags))
			out->sealed++;
		else if (page_is_zero(page))
			out->zero++;
		else
			out->plain++;
	}
}

// One segment file. False: it does not exist. A page that is being added right now may be cut short: it is not counted.
bool count_segment(const char* path, uint8* buffer, std::size_t buffer_size, PageCounts* out)
{
	const int fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	if (fd < 0) {
		if (errno == ENOENT)
			return false;
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open file \"%s\": %m", path)));
	}
	for (off_t at = 0;;) {
		const ssize_t got = pg_pread(fd, buffer, buffer_size, at);
		if (got < 0)
			ereport(ERROR, (errcode_for_file_access(), errmsg("could not read file \"%s\": %m", path)));
		const int pages = static_cast<int>(got / static_cast<ssize_t>(kPageSize));
		count_chunk(buffer, pages, out);
		if (pages == 0)
			break;
		at += static_cast<off_t>(pages) * static_cast<off_t>(kPageSize);
		CHECK_FOR_INTERRUPTS();
	}
	CloseTransientFile(fd);
	return true;
}

} // namespace

bool relation_storage(Oid relation, RelationStorage* out)
{
	const HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	if (!HeapTupleIsValid(tuple))
		return false;
	const bool found = storage_of(tuple, out);
	ReleaseSysCache(tuple);
	return found;
}

int relations_in_tablespace(Oid tablespace, RelationStorage** out)
{
	int count = 0, room = 1024;
	*out = static_cast<RelationStorage*>(palloc(sizeof(RelationStorage) * static_cast<Size>(room)));
	const Relation classes = table_open(RelationRelationId, AccessShareLock);
	const TableScanDesc scan = table_beginscan_catalog(classes, 0, nullptr);
	while (const HeapTuple tuple = heap_getnext(scan, ForwardScanDirection)) {
		RelationStorage storage;
		if (!storage_of(tuple, &storage) || (OidIsValid(tablespace) && storage.node.spcNode != tablespace))
			continue;
		if (count == room) {
			room *= 2;
			*out = static_cast<RelationStorage*>(repalloc_huge(*out, sizeof(RelationStorage) * static_cast<Size>(room)));
		}
		(*out)[count++] = storage;
	}
	table_endscan(scan);
	table_close(classes, AccessShareLock);
	return count;
}

bool relation_has_key(const RelationStorage& storage, KeySlot* slot)
{
	memset(slot, 0, sizeof *slot);
	if (storage.backend != InvalidBackendId) {
		RelFileNodeBackend rnode;
		rnode.node = storage.node;
		rnode.backend = storage.backend;
		uint8 seed[kDekSeedSize];
		const bool found = temp_keys_find(rnode, &slot->form, seed);
		wipe(seed, sizeof seed);
		return found;
	}
	if (keymap_find(storage.node, slot) == Lookup::found && slot->dropped_lsn == 0)
		return slot->form.cipher != CipherId::none;
	memset(slot, 0, sizeof *slot);
	return false;
}

void count_pages(const RelationStorage& storage, PageCounts* out)
{
	constexpr std::size_t kChunk = 64 * kPageSize;
	auto* const buffer = static_cast<uint8*>(palloc(kChunk));
	memset(out, 0, sizeof *out);
	for (int fork = 0; fork <= MAX_FORKNUM; fork++) {
		RelFileNodeBackend rnode;
		rnode.node = storage.node;
		rnode.backend = storage.backend;
		char* const base = relpath(rnode, static_cast<ForkNumber>(fork));
		bool exists = count_segment(base, buffer, kChunk, out);
		for (unsigned segment = 1; exists; segment++) {
			char* const path = psprintf("%s.%u", base, segment);
			exists = count_segment(path, buffer, kChunk, out);
			pfree(path);
		}
		pfree(base);
	}
	pfree(buffer);
}

} // namespace seal::pg
