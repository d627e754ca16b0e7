// From a key record to the DEK's seed: the keyring key, the record's MAC, the unwrap, the key check. Every failure names the relation,
// the keyring and the remedy, and hands nothing on.
#include "keymap.hpp"

#include "../agent_client/agent_client.hpp"
#include "../registry/registry_store.hpp"

#include "seal/secret.hpp"

extern "C" {
#include "access/xlog.h"
#include "common/relpath.h"
#include "postmaster/startup.h"
#include "storage/latch.h"
#include "utils/wait_event.h"
}

namespace seal::pg {

namespace {

const char* keyring_name(uint32 id, char buffer[NAMEDATALEN])
{
	const KeyringState state = keyring_state(id);
	if (state.exists)
		strlcpy(buffer, state.name, NAMEDATALEN);
	else
		snprintf(buffer, NAMEDATALEN, "id %u", id);
	return buffer;
}

[[noreturn]] void raise_not_loaded(const RelFileNode& node, uint32 keyring_id)
{
	char name[NAMEDATALEN];
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
	                errmsg("the key of keyring \"%s\", which protects relation %s, is not unlocked",
	                       keyring_name(keyring_id, name), relpathperm(node, MAIN_FORKNUM)),
	                errhint("See seal.health: the key agent loads it as soon as its provider answers.")));
	pg_unreachable();
}

[[noreturn]] void raise_not_authentic(const RelFileNode& node, uint32 keyring_id)
{
	char name[NAMEDATALEN];
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
	                errmsg("the key record of relation %s does not verify under keyring \"%s\"", relpathperm(node, MAIN_FORKNUM),
	                       keyring_name(keyring_id, name)),
	                errdetail("The key file of database %u is damaged, was altered, or belongs to other data.", node.dbNode),
	                errhint("Restore the file \"%s\" of that database from the same backup as its data.", kKeyFileName)));
	pg_unreachable();
}

// Waiting is for the startup process: redo may meet a keyring made after this server started, whose key the agent is still
// fetching. Everybody else gets an error at once, except for 'hsm' keys in the first moments after a start.
template <class Get> bool get_or_wait(Get get, void (*want)(const KeySlot&), const KeySlot& slot, const char* what)
{
	if (get())
		return true;
	const int patience_ms = AmStartupProcess() ? -1 : slot.mechanism == WrapMechanism::local_aes_gcm ? 0 : 10000;
	for (int waited = 0; patience_ms < 0 || waited < patience_ms; waited += 50) {
		if (waited % 10000 == 0) {
			if (AmStartupProcess())
				ereport(LOG, (errmsg("recovery waits for the key agent to load %s of keyring id %u", what, slot.keyring_id)));
			want(slot);
		}
		pg_usleep(50 * 1000);
		if (AmStartupProcess())
			HandleStartupProcInterrupts();
		else
			CHECK_FOR_INTERRUPTS();
		if (get())
			return true;
		if (!keyring_state(slot.keyring_id).exists)
			return false;
	}
	return false;
}

} // namespace

void keymap_seed(const RelFileNode& node, const KeySlot& slot, bool old, uint8 seed[kDekSeedSize])
{
	uint8 keyring_key[kKeyringKeySize];
	if (!get_or_wait([&] { return vault_get_keyring_key(slot.keyring_id, slot.mac_key_version, keyring_key); },
	                 [](const KeySlot& s) { agent_want_keyring(s.keyring_id); }, slot, "the key"))
		raise_not_loaded(node, slot.keyring_id);
	if (!slot_mac_ok(slot, keyring_key)) {
		wipe(keyring_key, sizeof keyring_key);
		raise_not_authentic(node, slot.keyring_id);
	}

	bool ok;
	if (slot.mechanism == WrapMechanism::local_aes_gcm) {
		ok = slot.keyring_version == slot.mac_key_version || vault_get_keyring_key(slot.keyring_id, slot.keyring_version, keyring_key);
		ok = ok && slot_unwrap_seed(slot, old, keyring_key, seed);
		wipe(keyring_key, sizeof keyring_key);
	} else {
		wipe(keyring_key, sizeof keyring_key);
		const uint8* wrapped = old ? slot.old_wrapped : slot.wrapped;
		const uint8 size = old ? slot.old_wrapped_size : slot.wrapped_size;
		if (!get_or_wait([&] { return vault_get_dek(slot.keyring_id, wrapped, size, seed); },
		                 [](const KeySlot& s) {
			                 if (s.wrapped_size > 0)
				                 agent_want_dek(s.keyring_id, s.wrapped, s.wrapped_size, s.keyring_version);
			                 if (s.old_wrapped_size > 0)
				                 agent_want_dek(s.keyring_id, s.old_wrapped, s.old_wrapped_size, s.keyring_version);
		                 },
		                 slot, "a relation's key"))
			raise_not_loaded(node, slot.keyring_id);
		uint8 check[kKeyCheckSize];
		ok = dek_key_check(seed, check) && memcmp(check, old ? slot.old_key_check : slot.key_check, kKeyCheckSize) == 0;
	}
	if (!ok) {
		wipe(seed, kDekSeedSize);
		raise_not_authentic(node, slot.keyring_id);
	}
}

} // namespace seal::pg
