#include "raw_copy_check.hpp"

#include "../keymap/key_file.hpp"
#include "../keymap/key_import.hpp"
#include "../audit/audit_event.hpp"
#include "../guc.hpp"
#include "../keymap/keymap.hpp"
#include "../operations/operation_record.hpp"
#include "../registry/registry_store.hpp"
#include "../sqlapi/sql_text.hpp"
#include "require_encryption.hpp"

extern "C" {
#include "commands/tablespace.h"
#include "common/relpath.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/hsearch.h"
}

#include <cstring>

namespace seal::pg {

namespace {

struct SealedSet {
	HTAB* rel_nodes; // relations of the default tablespace that are sealed
	uint32 keyring_id;
	int sealed, other, in_transition;
};

void note_slot(const KeySlot& slot, void* arg)
{
	auto* set = static_cast<SealedSet*>(arg);
	if (slot.tablespace != 0)
		return;
	if (slot_in_transition(slot.state))
		++set->in_transition;
	if (slot.form.cipher == CipherId::none)
		return;
	bool found;
	(void)hash_search(set->rel_nodes, &slot.rel_node, HASH_ENTER, &found);
	++set->sealed;
	if (slot.keyring_id != set->keyring_id)
		++set->other;
}

// A main fork's first segment: digits alone.
bool is_main_fork(const char* name, Oid* rel_node)
{
	if (name[0] == '\0' || strspn(name, "0123456789") != strlen(name))
		return false;
	*rel_node = static_cast<Oid>(strtoul(name, nullptr, 10));
	return true;
}

int count_plain_files(const char* directory, HTAB* sealed)
{
	int plain = 0;
	DIR* dir = AllocateDir(directory);
	while (dirent* entry = ReadDir(dir, directory)) {
		Oid rel_node;
		bool found;
		if (!is_main_fork(entry->d_name, &rel_node))
			continue;
		(void)hash_search(sealed, &rel_node, HASH_FIND, &found);
		plain += !found;
	}
	FreeDir(dir);
	return plain;
}

} // namespace

RawCopyFit raw_copy_fit(Oid database, Oid destination)
{
	const SealPolicy policy = policy_of_tablespace(destination);
	HASHCTL control = {};
	control.keysize = sizeof(Oid);
	control.entrysize = sizeof(Oid);
	control.hcxt = CurrentMemoryContext;
	SealedSet set = {hash_create("pg_seal raw copy", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT), policy.keyring_id, 0, 0, 0};
	keymap_visit(database, note_slot, &set);

	RawCopyFit fit = {policy.sealed, set.sealed, set.in_transition, 0};
	if (policy.sealed) {
		char* directory = GetDatabasePath(database, key_file_default_tablespace(database, InvalidOid));
		fit.misfits = count_plain_files(directory, set.rel_nodes);
		fit.other_keyring = set.other;
		pfree(directory);
	}
	hash_destroy(set.rel_nodes);
	return fit;
}

void check_raw_copy(Oid database, const char* database_name, Oid destination, const char* hint)
{
	if (guc_require_encryption == require_off || key_import_active())
		return; // pg_upgrade puts the old cluster's files in the place of what is copied
	const RawCopyFit fit = raw_copy_fit(database, destination);
	if (!fit.destination_sealed || fit.misfits == 0)
		return; // a plain destination is refused as such
	const bool refuse = guc_require_encryption == require_on;
	ereport(refuse ? ERROR : WARNING,
	        (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
	         refuse ? errmsg("plain relations of database \"%s\" may not be copied into a sealed tablespace: pg_seal.require_encryption is on",
	                         database_name)
	                : errmsg("plain relations of database \"%s\" are copied as they are, and sealed afterwards", database_name),
	         errdetail("%d relations are plain; until an operation has sealed them they would lie in clear.", fit.misfits), errhint("%s", hint)));
}

void mend_raw_copy(Oid database, const char* database_name, Oid destination, const char* statement)
{
	if (IsBinaryUpgrade)
		return; // pg_upgrade puts other files into their place: what is plain then is sealed afterwards, by request
	const RawCopyFit fit = pg_call([&] { return raw_copy_fit(database, destination); });
	const std::string name = "database \"" + utf8_from_server(database_name) + "\"";
	if (fit.other_keyring > 0)
		notify(NOTICE, std::to_string(fit.other_keyring) + " relations of " + name + " stay sealed under another keyring than the tablespace's");
	if (fit.misfits == 0 && fit.in_transition == 0)
		return;
	const char* tablespace = pg_call([&] { return static_cast<const char*>(get_tablespace_name(destination)); });
	const SealPolicy policy = policy_of_tablespace(destination);
	TablespacePolicy wanted;
	wanted.tablespace = destination;
	wanted.sealed = fit.destination_sealed;
	wanted.keyring_id = policy.keyring_id;
	wanted.cipher = policy.cipher;
	OperationDef def = operation_for_policy(wanted, tablespace ? utf8_from_server(tablespace) : "");
	def.requested_by = current_role();
	AuditEvent event("operation.create", def.target);
	std::uint64_t operation = 0;
	audited(event, [&] {
		operation = operation_create(def);
		event.detail.number("operation", static_cast<std::int64_t>(operation)).text("kind", def.kind).text("statement", statement);
	});
	notify(NOTICE, std::to_string(fit.misfits + fit.in_transition) + " relations of " + name + " were copied as they are; operation " +
	                   std::to_string(operation) + (fit.destination_sealed ? " seals them" : " unseals them"),
	       std::string("The tablespace's policy demands it. seal.operations shows how far it is. It was begun by ") + statement + ".");
}

} // namespace seal::pg
