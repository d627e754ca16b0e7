// seal.is_encrypted and the function under the view seal.relations.
//
// Both read the relation's files, page headers and all, because a key record alone proves nothing about what lies on disk. So they
// cost a sequential read of the relation; they take no lock on it.
#include "../guard.hpp"
#include "../registry/registry_store.hpp"
#include "key_wrapping.hpp"
#include "../relations/relation_storage.hpp"
#include "sql_args.hpp"
#include "sql_entry.hpp"

#include "seal/relation_state.hpp"

extern "C" {
#include "access/htup_details.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
}

namespace seal::pg {

namespace {

// Of a temporary relation of this session the record is made up: its key lies in memory alone.
const char* state_name(const RelationStorage& storage, const KeySlot& slot, const PageCounts& pages)
{
	if (storage.other_session)
		return "temporary of another session";
	return relation_state_name(slot.state, slot.form, slot.old_form, pages.sealed > 0, pages.plain > 0);
}

TimestampTz from_unix_seconds(uint32 seconds)
{
	return (static_cast<int64>(seconds) - (static_cast<int64>(POSTGRES_EPOCH_JDATE) - UNIX_EPOCH_JDATE) * SECS_PER_DAY) *
	       USECS_PER_SEC;
}

// Columns as in the extension script: keyring, generation, sealed_pages, total_pages, state, plain_pages, zero_pages, cipher,
// created_at. NULL where there is nothing to tell.
Datum relation_row(FunctionCallInfo fcinfo, const RelationStorage& storage)
{
	enum { keyring, generation, sealed, total, state, plain, zero, cipher, created, columns };
	Datum values[columns] = {};
	bool nulls[columns];
	memset(nulls, true, sizeof nulls);
	const auto set = [&](int column, Datum value) {
		values[column] = value;
		nulls[column] = false;
	};
	KeySlot slot;
	PageCounts pages = {};
	memset(&slot, 0, sizeof slot);
	const bool has_key = !storage.other_session && relation_has_key(storage, &slot);
	if (!storage.other_session) {
		count_pages(storage, &pages);
		set(sealed, Int64GetDatum(pages.sealed));
		set(total, Int64GetDatum(pages.total));
		set(plain, Int64GetDatum(pages.plain));
		set(zero, Int64GetDatum(pages.zero));
	}
	set(state, CStringGetTextDatum(state_name(storage, slot, pages)));
	if (has_key) {
		set(generation, Int32GetDatum(slot.form.generation));
		set(cipher, CStringGetTextDatum(cipher_name(slot.form.cipher)));
		const KeyringState owner = keyring_state(slot.keyring_id);
		if (owner.exists)
			set(keyring, CStringGetTextDatum(pg_any_to_server(owner.name, static_cast<int>(strlen(owner.name)), PG_UTF8)));
		if (slot.created_at != 0)
			set(created, TimestampTzGetDatum(from_unix_seconds(slot.created_at)));
	}
	TupleDesc row_type;
	if (get_call_result_type(fcinfo, nullptr, &row_type) != TYPEFUNC_COMPOSITE || row_type->natts != columns)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("pg_seal's SQL definitions do not fit its library"),
		                errhint("Run ALTER EXTENSION pg_seal UPDATE.")));
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(row_type), values, nulls));
}

} // namespace

extern "C" {
PG_FUNCTION_INFO_V1(pg_seal_is_encrypted);
PG_FUNCTION_INFO_V1(pg_seal_relation_status);

PGDLLEXPORT Datum pg_seal_is_encrypted(PG_FUNCTION_ARGS)
{
	return sql_entry([&]() -> Datum {
		RelationStorage storage;
		if (PG_ARGISNULL(0) || !relation_storage(PG_GETARG_OID(0), &storage) || storage.other_session)
			PG_RETURN_NULL();
		KeySlot slot;
		if (!relation_has_key(storage, &slot))
			PG_RETURN_BOOL(false);
		PageCounts pages;
		count_pages(storage, &pages);
		PG_RETURN_BOOL(pages.plain == 0);
	});
}

PGDLLEXPORT Datum pg_seal_relation_status(PG_FUNCTION_ARGS)
{
	return sql_entry([&]() -> Datum {
		RelationStorage storage;
		if (PG_ARGISNULL(0) || !relation_storage(PG_GETARG_OID(0), &storage))
			PG_RETURN_NULL();
		return relation_row(fcinfo, storage);
	});
}
}

} // namespace seal::pg
