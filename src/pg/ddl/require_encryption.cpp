#include "require_encryption.hpp"

#include "../guc.hpp"
#include "../keymap/key_import.hpp"
#include "../registry/registry_store.hpp"

extern "C" {
#include "commands/tablespace.h"
#include "utils/builtins.h"
#include "utils/varlena.h"
}

namespace seal::pg {

namespace {

StatementKind current = StatementKind::none;
bool warned; // by this statement

bool has_option(const List* options, const char* name)
{
	ListCell* cell;
	foreach (cell, options)
		if (strcmp(lfirst_node(DefElem, cell)->defname, name) == 0)
			return true;
	return false;
}

bool makes_index(const Constraint* constraint)
{
	return (constraint->contype == CONSTR_PRIMARY || constraint->contype == CONSTR_UNIQUE || constraint->contype == CONSTR_EXCLUSION) &&
	       !constraint->indexname; // USING INDEX takes one that is there
}

// ALTER TABLE rewrites in place, unless a subcommand moves the relation or makes another one.
bool alters_in_place(const AlterTableStmt* statement)
{
	ListCell* cell;
	foreach (cell, statement->cmds) {
		const AlterTableCmd* command = lfirst_node(AlterTableCmd, cell);
		switch (command->subtype) {
		case AT_SetTableSpace:
		case AT_AttachPartition: // makes the indexes that the parent has
		case AT_AddIndex: return false;
		case AT_AddConstraint:
			if (IsA(command->def, Constraint) && makes_index(castNode(Constraint, command->def)))
				return false;
			break;
		case AT_AddColumn: {
			ListCell* inner;
			foreach (inner, castNode(ColumnDef, command->def)->constraints)
				if (IsA(lfirst(inner), Constraint) && makes_index(lfirst_node(Constraint, inner)))
					return false;
			break;
		}
		default: break;
		}
	}
	return true;
}

StatementKind kind_of(const Node* statement)
{
	bool in_place = false;
	switch (nodeTag(statement)) {
	case T_VacuumStmt:
	case T_ClusterStmt:
	case T_TruncateStmt:
	case T_RefreshMatViewStmt:
	case T_AlterSeqStmt: in_place = true; break;
	case T_ReindexStmt: in_place = !has_option(reinterpret_cast<const ReindexStmt*>(statement)->params, "tablespace"); break;
	case T_AlterTableStmt: in_place = alters_in_place(reinterpret_cast<const AlterTableStmt*>(statement)); break;
	default: break;
	}
	return in_place ? StatementKind::in_place : StatementKind::other;
}

bool is_listed(Oid tablespace)
{
	if (guc_plain_tablespaces[0] == '\0')
		return false;
	char* text = pstrdup(guc_plain_tablespaces);
	List* names;
	bool found = false;
	if (SplitIdentifierString(text, ',', &names)) {
		ListCell* cell;
		foreach (cell, names)
			found = found || get_tablespace_oid(static_cast<const char*>(lfirst(cell)), true) == tablespace;
		list_free(names);
	}
	pfree(text);
	return found;
}

} // namespace

bool plain_is_unwanted(Oid tablespace)
{
	if (key_import_active())
		return false; // pg_upgrade makes what the old cluster has, sealed or not
	return guc_require_encryption != require_off && !policy_of_tablespace(tablespace).sealed && !is_listed(tablespace);
}

void check_plain_creation(Oid tablespace)
{
	if (likely(guc_require_encryption == require_off))
		return;
	if (current == StatementKind::in_place || (current == StatementKind::none && MyBackendType != B_BACKEND))
		return; // no statement: a worker that replays somebody else's TRUNCATE
	if (warned || !plain_is_unwanted(tablespace))
		return;
	const bool refuse = guc_require_encryption == require_on;
	char* name = get_tablespace_name(tablespace);
	warned = !refuse;
	ereport(refuse ? ERROR : WARNING,
	        (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
	         refuse ? errmsg("nothing may be created in tablespace \"%s\": it is not sealed, and pg_seal.require_encryption is on", name ? name : "?")
	                : errmsg("what is created in tablespace \"%s\" is not sealed", name ? name : "?"),
	         errhint("Create it in a sealed tablespace (seal.tablespaces lists them; TABLESPACE, default_tablespace), seal this one, or name it in "
	                 "pg_seal.plain_tablespaces.")));
}

StatementKind statement_begins(const Node* statement, ProcessUtilityContext context)
{
	const StatementKind outer = current;
	current = kind_of(statement);
	if (context != PROCESS_UTILITY_SUBCOMMAND)
		warned = false;
	return outer;
}

void statement_ends(StatementKind outer) noexcept { current = outer; }

} // namespace seal::pg
