// A measuring stick for test/bench/server_bench.sh, not part of the extension's SQL: the script declares it itself.
//   CREATE FUNCTION key_cache_hit_ns(regclass[], int) RETURNS float8 AS '$libdir/pg_seal', 'pg_seal_key_cache_hit_ns' LANGUAGE C STRICT
// Nanoseconds of one key_cache_get() that hits, taken over the given relations in turn (one relation: the last-entry shortcut;
// several: the set-associative lookup).
#include "key_cache.hpp"

extern "C" {
#include "fmgr.h"
#include "portability/instr_time.h"
#include "utils/array.h"
#include "utils/rel.h"
#include "access/relation.h"

PG_FUNCTION_INFO_V1(pg_seal_key_cache_hit_ns);
}

extern "C" PGDLLEXPORT Datum pg_seal_key_cache_hit_ns(PG_FUNCTION_ARGS)
{
	using namespace seal::pg;

	constexpr int kMostRelations = 64;
	ArrayType* array = PG_GETARG_ARRAYTYPE_P(0);
	const int rounds = PG_GETARG_INT32(1);
	const int count = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	if (count < 1 || count > kMostRelations || ARR_HASNULL(array) || rounds < 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("1 to %d relations and a positive count", kMostRelations)));

	RelFileNodeBackend nodes[kMostRelations];
	for (int i = 0; i < count; ++i) {
		Relation rel = relation_open(reinterpret_cast<Oid*>(ARR_DATA_PTR(array))[i], AccessShareLock);
		nodes[i] = {rel->rd_node, rel->rd_backend};
		relation_close(rel, AccessShareLock);
		key_cache_get(nodes[i]);
	}
	instr_time begin, end;
	uintptr_t sum = 0; // keeps the calls
	INSTR_TIME_SET_CURRENT(begin);
	for (int i = 0, next = 0; i < rounds; ++i) {
		sum += reinterpret_cast<uintptr_t>(key_cache_get(nodes[next]));
		next = next + 1 == count ? 0 : next + 1;
	}
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, begin);
	if (sum == 0)
		elog(ERROR, "no key");
	PG_RETURN_FLOAT8(INSTR_TIME_GET_DOUBLE(end) * 1e9 / rounds);
}
