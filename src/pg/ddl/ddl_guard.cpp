#include "ddl_guard.hpp"

#include "../guard.hpp"
#include "../keymap/keymap.hpp"
#include "../registry/registry_store.hpp"
#include "../shmem.hpp"
#include "raw_copy_check.hpp"

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
void check_create_database(const CreatedbStmt* statement)
{
	const char* strategy = option_text(statement->options, "strategy");
	if (!strategy || pg_strcasecmp(strategy, "file_copy") != 0)
		return;
	const char* source = option_text(statement->options, "template");
	if (!source)
		source = "template1";
	const Oid source_oid = get_database_oid(source, true);
	const char* tablespace = option_text(statement->options, "tablespace");
	const Oid destination = tablespace ? get_tablespace_oid(tablespace, true) : default_tablespace_of(source_oid);
	if (!OidIsValid(source_oid) || !OidIsValid(destination))
		return;
	check_raw_copy(source_oid, source, destination,
	               "Use STRATEGY wal_log (the default), which writes every relation anew as the destination demands.");
}

Oid check_move_database(const AlterDatabaseStmt* statement)
{
	const char* tablespace = option_text(statement->options, "tablespace");
	if (!tablespace)
		return InvalidOid;
	const Oid database = get_database_oid(statement->dbname, true);
	const Oid destination = get_tablespace_oid(tablespace, true);
	if (!OidIsValid(database) || !OidIsValid(destination) || default_tablespace_of(database) == destination)
		return InvalidOid;
	check_raw_copy(database, statement->dbname, destination,
	               "Create a copy with CREATE DATABASE ... TEMPLATE ... STRATEGY wal_log TABLESPACE ..., then rename it.");
	return database;
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

void on_utility(PlannedStmt* statement, const char* text, bool read_only_tree, ProcessUtilityContext context, ParamListInfo params,
                QueryEnvironment* environment, DestReceiver* dest, QueryCompletion* completion)
{
	const Node* node = statement->utilityStmt;
	Oid moved_database = InvalidOid, dropped_database = InvalidOid, dropped_tablespace = InvalidOid;
	pg_entry([&] {
		created_database = InvalidOid;
		if (IsA(node, CreatedbStmt))
			check_create_database(castNode(CreatedbStmt, statement->utilityStmt));
		else if (IsA(node, AlterDatabaseStmt))
			moved_database = check_move_database(castNode(AlterDatabaseStmt, statement->utilityStmt));
		else if (IsA(node, DropdbStmt))
			dropped_database = get_database_oid(castNode(DropdbStmt, statement->utilityStmt)->dbname, true);
		else if (IsA(node, DropTableSpaceStmt))
			dropped_tablespace = get_tablespace_oid(castNode(DropTableSpaceStmt, statement->utilityStmt)->tablespacename, true);
	});

	(previous_utility ? previous_utility : standard_ProcessUtility)(statement, text, read_only_tree, context, params, environment, dest,
	                                                                completion);

	pg_entry([&] {
		if (OidIsValid(created_database)) // somebody may have looked at the directory while it was being copied
			keymap_unload_database(created_database);
		if (OidIsValid(moved_database))
			keymap_unload_database(moved_database);
		if (OidIsValid(dropped_database))
			keymap_database_dropped(dropped_database);
		if (OidIsValid(dropped_tablespace))
			forget_tablespace_policy(dropped_tablespace);
	});
}

// The new database's row is not visible to this transaction when the statement ends, so its OID is noted here.
void on_object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void* arg)
{
	if (previous_access)
		previous_access(access, class_id, object_id, sub_id, arg);
	if (access == OAT_POST_CREATE && class_id == DatabaseRelationId)
		created_database = object_id;
}

// Which databases a database record is about; the directories change under the keymap.
void on_database_redo(XLogReaderState* record)
{
	const uint8 info = XLogRecGetInfo(record) & ~XLR_INFO_MASK;
	const char* data = XLogRecGetData(record);
	Oid database = InvalidOid;
	if (info == XLOG_DBASE_CREATE_FILE_COPY)
		database = reinterpret_cast<const xl_dbase_create_file_copy_rec*>(data)->db_id;
	else if (info == XLOG_DBASE_CREATE_WAL_LOG)
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
