#include "seam.hpp"

#include "pointer_table.hpp"
#include "server_smgr.hpp"
#include "smgr_seal.hpp"
#include "sync_seam.hpp"

#include <cstring>

namespace seal::pg {

namespace {

bool installed = false;
char summary[200] = "not installed";

// Calls through smgr.c's own dispatch on a relation that does not exist. In probe mode our functions note the call and return,
// so nothing is touched. (smgropen calls mdopen directly in the distribution's build, since the compiler knows the table's first row
// there: open is not ours for that reason.) unlink cannot be called here (smgrdounlinkall needs shared buffers); it lies in the same table, and a
// missed unlink would only leave a key record behind.
void probe()
{
	RelFileNode node = {.spcNode = 1, .dbNode = 1, .relNode = 1};
	alignas(MAXIMUM_ALIGNOF) static char page[BLCKSZ];

	smgr_probe_begin();
	SMgrRelation reln = smgropen(node, InvalidBackendId);
	smgrcreate(reln, MAIN_FORKNUM, false);
	smgrread(reln, MAIN_FORKNUM, 0, page);
	smgrwrite(reln, MAIN_FORKNUM, 0, page, true);
	smgrextend(reln, MAIN_FORKNUM, 0, page, true);
	smgrclose(reln);
	const unsigned missed = smgr_probe_end();
	if (missed != 0)
		ereport(
			FATAL,
			(errmsg("pg_seal: the server does not call its storage manager through the table (probe mask 0x%x missed)",
		            missed),
		     errdetail("The binary may have been built with link-time optimisation that calls the functions directly."),
		     errhint(
				 "Use the PostgreSQL packages of the distribution; \"pgseal doctor --binary\" examines a server.")));
}

} // namespace

void seam_install()
{
	const ServerSmgr stock = stock_smgr();
	void* wanted[kSmgrEntries];
	memcpy(wanted, &stock, sizeof wanted);
	const PointerTable table = {"storage manager table", kSmgrEntryNames, wanted, kSmgrEntries};
	void** const place = pointer_table_find(table);
	const ServerSmgr sealing = sealing_smgr(stock);
	void* entries[kSmgrEntries];
	memcpy(entries, &sealing, sizeof entries);
	pointer_table_write(table, place, entries);
	probe();
	sync_seam_install();
	snprintf(summary, sizeof summary,
	         "storage manager table redirected; create, read, write, extend proved by calls; sync table redirected, "
	         "proved by a call");
	installed = true;
}

bool seam_installed() noexcept { return installed; }
const char* seam_summary() noexcept { return summary; }

} // namespace seal::pg
