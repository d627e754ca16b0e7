// The in-backend key cache: ready cipher contexts per relation, in this process alone.
//
// A hit takes no lock: it compares the relation and one shared counter (keymap_epoch), which every change of a key record in the
// same partition moves, so a relfilenode that is dropped and used again can never meet a stale key. Bounded by
// pg_seal.key_cache_size; an evicted entry's contexts are wiped and freed, all of them at process exit.
#pragma once

#include "../pg.hpp"

#include "seal/key_slot.hpp"
#include "seal/page_cipher.hpp"

extern "C" {
#include "storage/relfilenode.h"
}

namespace seal::pg {

struct Transition; // keymap/transition.hpp

struct CachedKey {
	enum Kind : uint8 {
		plain,     // no key: pages pass untouched
		sealed,    // ciphers ready
		missing,   // pages on disk are sealed, but the key file knows no key: every access is an ERROR
		throwaway, // the same in recovery, once something was written: under a key that lasts until the relation is dropped
	};
	RelFileNodeBackend rnode;
	uint32 epoch;
	Kind kind;
	bool in_use, recently_used;
	SlotState state;
	bool unlogged;           // an unlogged relation in transition
	KeyForm form, old_form;
	uint64 switch_lsn;
	uint64 record_lsn;       // the end of the WAL record that brought the key record to this node
	Transition* transition;  // announced and transition only; nullptr when the table is full
	PageCipher cipher, old_cipher;

	bool in_transition() const noexcept { return slot_in_transition(state); }
};

// The relation's entry, filled from the keymap on a miss. Valid until the next call. May raise on a miss (never on a hit).
CachedKey* key_cache_get(const RelFileNodeBackend& rnode);

// Recovery of a relation whose key is missing: what is written from now on takes a key that lasts until the relation is dropped.
void key_cache_take_throwaway(CachedKey* key);
// The cipher of such pages after the relation's record has come after all: until they are written anew they must be readable. nullptr: there is no
// such key. Valid until the next call.
PageCipher* key_cache_throwaway_cipher(const RelFileNode& node);

// Temporary relations: their DEK lives only here, in the session that owns them.
void key_cache_temp_created(const RelFileNodeBackend& rnode, CipherId cipher);
void key_cache_temp_dropped(const RelFileNodeBackend& rnode) noexcept;

} // namespace seal::pg
