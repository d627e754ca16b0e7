// New keys, and the record of a relation that is being created.
#include "key_draft.hpp"

#include "../agent_client/agent_client.hpp"
#include "../registry/registry_store.hpp"
#include "../shmem.hpp"
#include "keymap_store.hpp"

extern "C" {
#include "storage/latch.h"
#include "utils/wait_event.h"
}

#include <cstring>
#include <ctime>

namespace seal::pg {

namespace {

// A DEK that the provider has wrapped already. The agent worker keeps a pool; when it is empty we wait, holding no lock.
void take_pooled_dek(uint32 keyring_id, const char* keyring_name, PooledDek* dek)
{
	for (int waited_ms = 0; !vault_pool_take(keyring_id, dek); waited_ms += 20) {
		uint32 used, capacity;
		vault_dek_usage(&used, &capacity);
		if (waited_ms >= 2000 && used >= capacity)
			ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			                errmsg("the server holds as many keys of relations under 'hsm' keyrings as it may (%u)", capacity),
			                errhint("Raise pg_seal.max_hsm_keys and restart the server.")));
		if (waited_ms >= 30000)
			ereport(ERROR,
			        (errcode(ERRCODE_CONNECTION_FAILURE),
			         errmsg("keyring \"%s\" has no wrapped key in store and its provider delivers none", keyring_name),
			         errhint("See the view seal.health and the server log for the provider's state.")));
		agent_wake();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 20, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

} // namespace

KeyringState key_draft_keyring(uint32 keyring_id)
{
	const KeyringState keyring = keyring_state(keyring_id);
	if (!keyring.exists)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
		                errmsg("the keyring with id %u of this tablespace does not exist", keyring_id),
		                errhint("Choose another keyring with seal.encrypt_tablespace.")));
	if (!keyring.usable_for_new)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		                errmsg("keyring \"%s\" makes no new keys in its present state", keyring.name),
		                errhint("Choose another keyring with seal.encrypt_tablespace.")));
	return keyring;
}

void key_draft_new(KeyDraft* draft, const RelFileNode& node, uint32 keyring_id, CipherId cipher)
{
	memset(draft, 0, sizeof *draft);
	draft->node = node;
	KeySlot& slot = draft->slot;
	slot.format = kSlotFormat;
	slot.state = SlotState::single;
	slot.created_at = static_cast<uint32>(time(nullptr));
	slot.form.cipher = cipher;
	slot.keyring_id = keyring_id;
	if (cipher == CipherId::none)
		return;
	draft->new_dek = true;
	if (!pg_strong_random(&slot.form.generation, 1))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random bytes")));
	const KeyringState keyring = key_draft_keyring(keyring_id);
	slot.mac_key_version = static_cast<uint16>(keyring.current_version);
	slot.keyring_version = keyring.current_version;
	draft->hsm = keyring.hsm;
	if (keyring.hsm) {
		take_pooled_dek(keyring_id, keyring.name, &draft->pooled);
		slot.keyring_version = draft->pooled.kek_version;
		slot.mechanism = draft->pooled.mechanism;
		slot.wrapped_size = draft->pooled.wrapped_size;
		memcpy(slot.wrapped, draft->pooled.wrapped, sizeof slot.wrapped);
	}
}

void keymap_create(const RelFileNode& node, uint32 keyring_id, CipherId cipher)
{
	KeyDraft draft;
	key_draft_new(&draft, node, keyring_id, cipher);
	LWLockAcquire(seal_lock(Lock::keymap_writer), LW_EXCLUSIVE);
	DatabaseKeys database;
	key_drafts_database(node.dbNode, &database);
	key_drafts_write(&database, &draft, 1, false);
	LWLockRelease(seal_lock(Lock::keymap_writer));
}

} // namespace seal::pg
