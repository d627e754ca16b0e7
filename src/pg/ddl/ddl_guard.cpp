#include "ddl_guard.hpp"

#include "../guard.hpp"
#include "../keymap/keymap.hpp"
#include "../operations/operation_record.hpp"
#include "../registry/registry_store.hpp"
#include "../shmem.hpp"
#include "../storage/sync_seam.hpp"
#include "raw_copy_check.hpp"
#include "require_encryption.hpp"
#include "vacate.hpp"

#include "seal/registry.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/rmgr.h"
#include "access/xact.h"
#include "access/xlog_internal.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_database.h"
#include "catalog/pg_tablespace_d.h"
#include "commands/dbcommands.h"
#include "commands/dbcommands_xlog.h"
#include "commands/defrem.h"
#include "commands/tablespace.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/syscache.h"
}

#include <string>

namespace seal::pg {

namespace {

ProcessUtility_hook_type previous_utility;
object_access_hook_type previous_access;
Oid created_database = InvalidOid; // by the CREATE DATABASE that runs in this process

// What the utility statement that runs is about. Plain data.
struct About {
	const char* database;        // by name
	Oid emptied;                 // a database that nobody may be in meanwhile
	Oid copied_to;               // the tablespace that a raw copy goes to
	Oid moved;                   // the database that ALTER DATABASE SET TABLESPACE moves
	Oid dropped_database, dropped_tablespace;
};
const About* moving; // the ALTER DATABASE SET TABLESPACE that runs, for the object access hook
void (*stock_database_redo)(XLogReaderState*);

const char* option_text(List* options, const char* name)
{
	ListCell* cell;
	foreach (cell, options) {
		DefElem* option = lfirst_node(DefElem, cell);
		if (strcmp(option->defname, name) == 0 && option->arg)
			return defGetString(option);
	}
	return nullptr;
}

Oid default_tablespace_of(Oid database)
{
	HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	const Oid tablespace = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple))->dattablespace;
	ReleaseSysCache(tuple);
	return tablespace;
}

// The names and rights are the statement's own to check: what cannot be resolved here is left to its error.
void look_at_create_database(const CreatedbStmt* statement, About* about)
{
	const char* source = option_text(statement->options, "template");
	if (!source)
		source = "template1";
	const Oid source_oid = get_database_oid(source, true);
	const char* tablespace = option_text(statement->options, "tablespace");
	const Oid destination = tablespace ? get_tablespace_oid(tablespace, true) : default_tablespace_of(source_oid);
	if (!OidIsValid(source_oid) || !OidIsValid(destination))
		return;
	about->database = statement->dbname;
	about->emptied = source_oid;
	check_plain_creation(destination);
	const char* strategy = option_text(statement->options, "strategy");
	if (!strategy || pg_strcasecmp(strategy, "file_copy") != 0)
		return;
	about->copied_to = destination;
	check_raw_copy(source_oid, source, destination,
	               "Use STRATEGY wal_log (the default), which writes every relation anew as the destination demands.");
}

void look_at_alter_database(const AlterDatabaseStmt* statement, About* about)
{
	const char* tablespace = option_text(statement->options, "tablespace");
	if (!tablespace)
		return;
	const Oid database = get_database_oid(statement->dbname, true);
	const Oid destination = get_tablespace_oid(tablespace, true);
	if (!OidIsValid(database) || !OidIsValid(destination) || default_tablespace_of(database) == destination)
		return;
	about->database = statement->dbname;
	about->emptied = about->moved = database;
	about->copied_to = destination;
	check_plain_creation(destination);
	check_raw_copy(database, statement->dbname, destination,
	               "Create a copy with CREATE DATABASE ... TEMPLATE ... STRATEGY wal_log TABLESPACE ..., then rename it.");
}

About look_at(const Node* node)
{
	About about = {};
	created_database = InvalidOid;
	moving = nullptr;
	switch (nodeTag(node)) {
	case T_CreatedbStmt: look_at_create_database(reinterpret_cast<const CreatedbStmt*>(node), &about); break;
	case T_AlterDatabaseStmt: look_at_alter_database(reinterpret_cast<const AlterDatabaseStmt*>(node), &about); break;
	case T_DropdbStmt:
		about.emptied = about.dropped_database = get_database_oid(reinterpret_cast<const DropdbStmt*>(node)->dbname, true);
		break;
	case T_RenameStmt:
		if (reinterpret_cast<const RenameStmt*>(node)->renameType == OBJECT_DATABASE)
			about.emptied = get_database_oid(reinterpret_cast<const RenameStmt*>(node)->subname, true);
		break;
	case T_DropTableSpaceStmt:
		about.dropped_tablespace = get_tablespace_oid(reinterpret_cast<const DropTableSpaceStmt*>(node)->tablespacename, true);
		break;
	default: break;
	}
	return about;
}

void forget_tablespace_policy(Oid tablespace)
{
	LWLockAcquire(seal_lock(Lock::registry), LW_EXCLUSIVE);
	try {
		const Registry registry = registry_read();
		for (const TablespacePolicy& policy : registry.tablespaces())
			if (policy.tablespace == tablespace)
				registry_commit(registry.remove("tablespaces", std::to_string(tablespace)));
	} catch (const SealError& e) { // the tablespace is gone: too late for an ERROR
		ereport(WARNING, (errmsg("the policy of the dropped tablespace stays: %s", e.error.message.c_str())));
	}
	LWLockRelease(seal_lock(Lock::registry));
}

void finish(const About& about)
{
	if (OidIsValid(created_database)) { // somebody may have looked at the directory while it was being copied
		keymap_unload_database(created_database);
		if (OidIsValid(about.copied_to))
			mend_raw_copy(created_database, about.database, about.copied_to, "CREATE DATABASE");
	}
	if (OidIsValid(about.moved))
		keymap_unload_database(about.moved);
	if (OidIsValid(about.dropped_database))
		keymap_database_dropped(about.dropped_database);
	if (OidIsValid(about.dropped_tablespace)) {
		forget_tablespace_policy(about.dropped_tablespace);
		operations_of_dropped_tablespace(about.dropped_tablespace);
	}
}

void on_utility(PlannedStmt* statement, const char* text, bool read_only_tree, ProcessUtilityContext context, ParamListInfo params,
                QueryEnvironment* environment, DestReceiver* dest, QueryCompletion* completion)
{
	const auto run = previous_utility ? previous_utility : standard_ProcessUtility;
	const StatementKind outer = statement_begins(statement->utilityStmt, context);
	PG_TRY();
	{
		const About about = pg_entry([&] { return look_at(statement->utilityStmt); });
		if (OidIsValid(about.emptied)) {
			const int slot = vacate_take(about.emptied);
			PG_ENSURE_ERROR_CLEANUP(vacate_release, Int32GetDatum(slot));
			{
				vacate_wait(about.emptied);
				moving = OidIsValid(about.moved) ? &about : nullptr;
				run(statement, text, read_only_tree, context, params, environment, dest, completion);
			}
			PG_END_ENSURE_ERROR_CLEANUP(vacate_release, Int32GetDatum(slot));
			vacate_release(0, Int32GetDatum(slot));
		} else {
			run(statement, text, read_only_tree, context, params, environment, dest, completion);
		}
		pg_entry([&] { finish(about); });
	}
	PG_FINALLY();
	{
		moving = nullptr;
		statement_ends(outer);
	}
	PG_END_TRY();
}

// The new database's row is not visible to this transaction when the statement ends, so its OID is noted here. A database that moves is altered
// here when its files are copied and the move is not committed yet: the operation that it may need exists before the move is durable.
void on_object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void* arg)
{
	if (previous_access)
		previous_access(access, class_id, object_id, sub_id, arg);
	if (access == OAT_POST_CREATE && class_id == DatabaseRelationId)
		created_database = object_id;
	if (access == OAT_POST_ALTER && class_id == DatabaseRelationId && moving && object_id == moving->moved)
		pg_entry([&] { mend_raw_copy(object_id, moving->database, moving->copied_to, "ALTER DATABASE"); });
}

// Which databases a database record is about; the directories change under the keymap.
void on_database_redo(XLogReaderState* record)
{
	const uint8 info = XLogRecGetInfo(record) & ~XLR_INFO_MASK;
	const char* data = XLogRecGetData(record);
	Oid database = InvalidOid;
	if (info == XLOG_DBASE_CREATE_FILE_COPY) {
		const auto* copy = reinterpret_cast<const xl_dbase_create_file_copy_rec*>(data);
		database = copy->db_id;
		sync_key_file_forget(copy->db_id, copy->tablespace_id); // what is there is removed first; the copy is fsynced as it is made
	}
	if (info == XLOG_DBASE_CREATE_WAL_LOG)
		database = reinterpret_cast<const xl_dbase_create_wal_log_rec*>(data)->db_id;
	else if (info == XLOG_DBASE_DROP)
		database = reinterpret_cast<const xl_dbase_drop_rec*>(data)->db_id;

	keymap_raw_copy(true);
	keymap_unload_database(database);
	stock_database_redo(record);
	if (info == XLOG_DBASE_DROP)
		keymap_database_dropped(database);
	else
		keymap_unload_database(database);
	keymap_raw_copy(false);
}

} // namespace

void install_ddl_guard()
{
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = on_utility;
	previous_access = object_access_hook;
	object_access_hook = on_object_access;
	stock_database_redo = RmgrTable[RM_DBASE_ID].rm_redo;
	RmgrTable[RM_DBASE_ID].rm_redo = on_database_redo;
}

} // namespace seal::pg
