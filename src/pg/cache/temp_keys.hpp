// The DEK seeds of this session's temporary relations: in memory only, gone with the session, never written anywhere.
#pragma once

#include "key_cache.hpp"

namespace seal::pg {

void temp_keys_add(const RelFileNodeBackend& rnode, CipherId cipher); // a new random seed; ERROR on failure
bool temp_keys_find(const RelFileNodeBackend& rnode, KeyForm* form, uint8 seed[kDekSeedSize]) noexcept;
void temp_keys_remove(const RelFileNodeBackend& rnode) noexcept;
void temp_keys_wipe() noexcept;

} // namespace seal::pg
