#include "temp_keys.hpp"

#include "seal/secret.hpp"

extern "C" {
#include "utils/hsearch.h"
#include "utils/memutils.h"
}

#include <cstring>

namespace seal::pg {

namespace {

struct TempKey {
	RelFileNodeBackend rnode; // key of the table
	KeyForm form;
	uint8 seed[kDekSeedSize];
};
HTAB* table = nullptr;

} // namespace

void temp_keys_add(const RelFileNodeBackend& rnode, CipherId cipher)
{
	if (!table) {
		HASHCTL control = {};
		control.keysize = sizeof(RelFileNodeBackend);
		control.entrysize = sizeof(TempKey);
		control.hcxt = TopMemoryContext;
		table = hash_create("pg_seal temporary keys", 32, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	bool found;
	auto* key = static_cast<TempKey*>(hash_search(table, &rnode, HASH_ENTER, &found));
	key->form = {cipher, 0};
	if (!new_dek_seed(key->seed)) {
		hash_search(table, &rnode, HASH_REMOVE, nullptr);
		ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION), errmsg("the random generator failed")));
	}
}

bool temp_keys_find(const RelFileNodeBackend& rnode, KeyForm* form, uint8 seed[kDekSeedSize]) noexcept
{
	const auto* key = table ? static_cast<TempKey*>(hash_search(table, &rnode, HASH_FIND, nullptr)) : nullptr;
	if (!key)
		return false;
	*form = key->form;
	memcpy(seed, key->seed, kDekSeedSize);
	return true;
}

void temp_keys_remove(const RelFileNodeBackend& rnode) noexcept
{
	auto* key = table ? static_cast<TempKey*>(hash_search(table, &rnode, HASH_FIND, nullptr)) : nullptr;
	if (!key)
		return;
	wipe(key->seed, sizeof key->seed);
	hash_search(table, &rnode, HASH_REMOVE, nullptr);
}

void temp_keys_wipe() noexcept
{
	if (!table)
		return;
	HASH_SEQ_STATUS scan;
	hash_seq_init(&scan, table);
	while (auto* key = static_cast<TempKey*>(hash_seq_search(&scan)))
		wipe(key->seed, sizeof key->seed);
}

} // namespace seal::pg
