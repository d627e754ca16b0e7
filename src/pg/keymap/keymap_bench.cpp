// A measuring stick for test/bench/keys_bench.sh, not part of the extension's SQL: the script declares it itself.
//   CREATE FUNCTION key_lookup_ns(int8, int, int) RETURNS float8 AS '$libdir/pg_seal', 'pg_seal_key_lookup_ns' LANGUAGE C STRICT
// Nanoseconds of one keymap_find(): index and key file, without any cache of this process. The relations looked up have the relfilenodes
// first .. first + count - 1 of the current database's default tablespace, in an order that jumps about; the third argument says how often.
#include "keymap.hpp"

extern "C" {
#include "fmgr.h"
#include "portability/instr_time.h"

PG_FUNCTION_INFO_V1(pg_seal_key_lookup_ns);
}

extern "C" PGDLLEXPORT Datum pg_seal_key_lookup_ns(PG_FUNCTION_ARGS)
{
	using namespace seal::pg;

	const int64 first = PG_GETARG_INT64(0);
	const int32 count = PG_GETARG_INT32(1);
	const int32 rounds = PG_GETARG_INT32(2);
	if (first < 1 || count < 1 || rounds < 1 || first + count > PG_UINT32_MAX)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a relfilenode and positive counts are needed")));

	RelFileNode node = {.spcNode = MyDatabaseTableSpace, .dbNode = MyDatabaseId, .relNode = 0};
	seal::KeySlot slot;
	instr_time begin, end;
	int32 found = 0;
	uint32 step = 0;
	INSTR_TIME_SET_CURRENT(begin);
	for (int32 i = 0; i < rounds; ++i) {
		step = step * 1664525u + 1013904223u; // a linear congruential generator: any order but the file's will do
		node.relNode = static_cast<Oid>(first + static_cast<int64>(uint64{step} * static_cast<uint32>(count) >> 32));
		found += keymap_find(node, &slot) == Lookup::found;
	}
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, begin);
	if (found != rounds)
		ereport(ERROR, (errmsg("%d of %d lookups found a key record", found, rounds)));
	PG_RETURN_FLOAT8(INSTR_TIME_GET_DOUBLE(end) * 1e9 / rounds);
}
