// Creating a key record: the protocol of PROTOCOLS 3 as one function that reads from top to bottom.
//
//   outside any critical section   make and wrap the DEK; find a slot, growing the file durably if need be   (errors: nothing changed)
//   critical section               WAL insert -> WAL flush -> page with pd_lsn and checksum -> fsync -> publish
//
// Crash points and why each is safe are argued in docs/architecture.md, "Key files".
#include "keymap.hpp"

#include "../agent_client/agent_client.hpp"
#include "../registry/registry_store.hpp"
#include "../shmem.hpp"
#include "../xlog.hpp"
#include "keymap_store.hpp"

#include "seal/secret.hpp"

extern "C" {
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/wait_event.h"
}

#include <cstring>
#include <ctime>

namespace seal::pg {

namespace {

[[noreturn]] void raise_crypto()
{
	ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION), errmsg("the cryptographic library failed while a key was made"),
	                errhint("Nothing was changed. Check the OpenSSL configuration of the server.")));
	pg_unreachable();
}

KeyringState usable_keyring(uint32 keyring_id)
{
	const KeyringState keyring = keyring_state(keyring_id);
	if (!keyring.exists)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("the keyring with id %u of this tablespace does not exist", keyring_id),
		                errhint("Choose another keyring with seal.encrypt_tablespace.")));
	if (!keyring.usable_for_new)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		                errmsg("keyring \"%s\" makes no new keys in its present state", keyring.name),
		                errhint("Choose another keyring with seal.encrypt_tablespace.")));
	return keyring;
}

// A DEK that the provider has wrapped already. The agent worker keeps a pool; when it is empty we wait, holding no lock.
void take_pooled_dek(uint32 keyring_id, const char* keyring_name, PooledDek* dek)
{
	for (int waited_ms = 0; !vault_pool_take(keyring_id, dek); waited_ms += 20) {
		if (waited_ms >= 30000)
			ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE),
			                errmsg("keyring \"%s\" has no wrapped key in store and its provider delivers none", keyring_name),
			                errhint("See the view seal.health and the server log for the provider's state.")));
		agent_wake();
		(void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 20, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

// Fills everything but the version. Identity fields come first: they are the associated data of the wrap.
struct NewKey {
	KeySlot slot;
	PooledDek pooled; // 'hsm' keyrings
	bool hsm;
};

NewKey prepare(uint32 keyring_id, CipherId cipher)
{
	NewKey key;
	memset(&key, 0, sizeof key);
	key.slot.format = kSlotFormat;
	key.slot.state = SlotState::single;
	key.slot.created_at = static_cast<uint32>(time(nullptr));
	key.slot.form.cipher = cipher;
	key.slot.keyring_id = keyring_id;
	if (cipher == CipherId::none)
		return key;
	if (!pg_strong_random(&key.slot.form.generation, 1))
		raise_crypto();
	const KeyringState keyring = usable_keyring(keyring_id);
	key.hsm = keyring.hsm;
	key.slot.mac_key_version = static_cast<uint16>(keyring.current_version);
	key.slot.keyring_version = keyring.current_version;
	if (keyring.hsm) {
		take_pooled_dek(keyring_id, keyring.name, &key.pooled);
		key.slot.keyring_version = key.pooled.kek_version;
		key.slot.mechanism = key.pooled.mechanism;
		key.slot.wrapped_size = key.pooled.wrapped_size;
		memcpy(key.slot.wrapped, key.pooled.wrapped, sizeof key.slot.wrapped);
	}
	return key;
}

// Wraps (or takes the pooled key's check) and authenticates the record. False: the library failed. Wipes what it used.
bool finish(NewKey* key) noexcept
{
	KeySlot& slot = key->slot;
	if (slot.form.cipher == CipherId::none)
		return true;
	uint8 keyring_key[kKeyringKeySize];
	uint8 seed[kDekSeedSize];
	bool ok = vault_get_keyring_key(slot.keyring_id, slot.mac_key_version, keyring_key);
	if (key->hsm)
		ok = ok && dek_key_check(key->pooled.seed, slot.key_check);
	else
		ok = ok && new_dek_seed(seed) && slot_wrap_seed(slot, keyring_key, seed);
	ok = ok && slot_set_mac(slot, keyring_key);
	wipe(keyring_key, sizeof keyring_key);
	wipe(seed, sizeof seed);
	wipe(key->pooled.seed, sizeof key->pooled.seed);
	return ok;
}

} // namespace

void keymap_create(const RelFileNode& node, uint32 keyring_id, CipherId cipher)
{
	NewKey key = prepare(keyring_id, cipher);
	uint8 probe[kKeyringKeySize];
	if (cipher != CipherId::none && !vault_get_keyring_key(keyring_id, key.slot.mac_key_version, probe))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		                errmsg("the key of keyring \"%s\" is not unlocked", keyring_state(keyring_id).name),
		                errhint("See seal.health: the key agent loads it as soon as its provider answers.")));
	wipe(probe, sizeof probe);

	LWLockAcquire(seal_lock(Lock::keymap_writer), LW_EXCLUSIVE);
	if (cipher != CipherId::none)
		(void)usable_keyring(keyring_id); // again: it may have been dropped while we waited
	DatabaseKeys database;
	if (!keymap_load(node.dbNode, InvalidOid, true, ERROR, &database))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_DATABASE), errmsg("the directory of database %u was not found", node.dbNode)));
	const SlotKey slot_key_ = slot_key(database, node);
	SlotPlace place = keymap_place_slot(&database, slot_key_);

	key.slot.tablespace = slot_key_.tablespace;
	key.slot.rel_node = slot_key_.rel_node;
	key.slot.version = database.max_version + 1;
	if (!finish(&key))
		raise_crypto();
	KeyUpsertRecord record = {database.database, database.default_tablespace, key.slot};

	XLogBeginInsert();
	XLogRegisterData(reinterpret_cast<char*>(&record), sizeof record);
	crash_point("keymap.before_insert");

	START_CRIT_SECTION();
	Assert((MyProc->delayChkptFlags & DELAY_CHKPT_START) == 0);
	MyProc->delayChkptFlags |= DELAY_CHKPT_START;
	const XLogRecPtr lsn = XLogInsert(kRmgrId, kXlogKeyUpsert);
	crash_point("keymap.after_insert");
	XLogFlush(lsn);
	crash_point("keymap.after_flush");
	*place.target() = key.slot;
	place.target()->record_lsn = lsn;
	keymap_write_crit(place, lsn);
	crash_point("keymap.after_fsync");
	keymap_publish(database, slot_key_, place);
	MyProc->delayChkptFlags &= ~DELAY_CHKPT_START;
	END_CRIT_SECTION();
	crash_point("keymap.after_publish");

	keymap_remember(database, key.slot.version);
	key_file_close(place.fd);
	LWLockRelease(seal_lock(Lock::keymap_writer));
}

} // namespace seal::pg
