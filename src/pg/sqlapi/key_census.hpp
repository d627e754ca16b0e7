// Counting what key files hold, all databases together. No C++ object with a destructor here: reading may raise.
#pragma once

#include "../pg.hpp"

#include "seal/key_slot.hpp"

namespace seal::pg {

// DEKs alike: wrapped by the same version of the same keyring, for the same cipher.
struct DekGroup {
	uint32 keyring_id, wrapped_by; // version of the keyring key, of the KEK for 'hsm'
	CipherId cipher;
	WrapMechanism mechanism;
	uint32 oldest_at, newest_at; // seconds since 1970
	int64 count;
};
// A palloc'd array in no particular order; returns its length.
int count_deks(DekGroup** out);

struct TombstoneCount {
	int64 waiting;
	uint32 oldest_at; // seconds since 1970, 0 when none waits
};
TombstoneCount count_tombstones();

} // namespace seal::pg
