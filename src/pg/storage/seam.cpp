#include "seam.hpp"

#include "server_smgr.hpp"
#include "smgr_seal.hpp"

#include <cstdint>
#include <cstring>
#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

namespace seal::pg {

namespace {

bool installed = false;
char summary[160] = "not installed";

struct Relro {
	std::uintptr_t begin = 0, end = 0;
};

// The RELRO range of the main executable: the first object of the list, by dl_iterate_phdr(3).
int find_relro(dl_phdr_info* info, std::size_t, void* out)
{
	for (int i = 0; i < info->dlpi_phnum; ++i) {
		const ElfW(Phdr)& header = info->dlpi_phdr[i];
		if (header.p_type == PT_GNU_RELRO) {
			static_cast<Relro*>(out)->begin = info->dlpi_addr + header.p_vaddr;
			static_cast<Relro*>(out)->end = info->dlpi_addr + header.p_vaddr + header.p_memsz;
		}
	}
	return 1;
}

struct Search {
	void** table = nullptr; // the last full match
	int matches = 0;
	void** nearest = nullptr; // most entries equal, for the message
	int nearest_equal = 0;
};

Search search_table(const Relro& relro, const ServerSmgr& stock) noexcept
{
	void* wanted[kSmgrEntries];
	memcpy(wanted, &stock, sizeof wanted);
	Search found;
	const auto align = alignof(void*);
	for (std::uintptr_t at = (relro.begin + align - 1) / align * align; at + sizeof wanted <= relro.end; at += align) {
		void** candidate = reinterpret_cast<void**>(at);
		int equal = 0;
		for (int i = 0; i < kSmgrEntries; ++i)
			equal += candidate[i] == wanted[i] && wanted[i] != nullptr;
		if (equal == kSmgrEntries - 1 && candidate[1] == nullptr) {
			found.table = candidate;
			++found.matches;
		} else if (equal > found.nearest_equal) {
			found.nearest = candidate;
			found.nearest_equal = equal;
		}
	}
	return found;
}

// Names who replaced the first differing entry of a nearly matching table.
void describe_nearest(const Search& found, const ServerSmgr& stock, char* out, std::size_t size)
{
	void* wanted[kSmgrEntries];
	memcpy(wanted, &stock, sizeof wanted);
	if (!found.nearest || found.nearest_equal < kSmgrEntries / 2) {
		snprintf(out, size, "no table resembling it is there");
		return;
	}
	for (int i = 0; i < kSmgrEntries; ++i) {
		if (found.nearest[i] == wanted[i])
			continue;
		Dl_info who;
		if (found.nearest[i] && dladdr(found.nearest[i], &who) && who.dli_fname)
			snprintf(out, size, "entry \"%s\" of the table already points into %s", kSmgrEntryNames[i], who.dli_fname);
		else
			snprintf(out, size, "entry \"%s\" of the table differs", kSmgrEntryNames[i]);
		return;
	}
}

void write_table(void** table, const ServerSmgr& entries)
{
	const std::uintptr_t page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
	const std::uintptr_t begin = reinterpret_cast<std::uintptr_t>(table) / page * page;
	const std::uintptr_t end = (reinterpret_cast<std::uintptr_t>(table + kSmgrEntries) + page - 1) / page * page;
	if (mprotect(reinterpret_cast<void*>(begin), end - begin, PROT_READ | PROT_WRITE) != 0)
		ereport(FATAL, (errmsg("pg_seal could not make the storage manager table writable: %m"),
		                errhint("A security policy may forbid it. Allow the server to change the protection of its own memory.")));
	memcpy(table, &entries, sizeof entries);
	if (mprotect(reinterpret_cast<void*>(begin), end - begin, PROT_READ) != 0)
		ereport(FATAL, (errmsg("pg_seal could not make the storage manager table read-only again: %m")));
}

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
		ereport(FATAL, (errmsg("pg_seal: the server does not call its storage manager through the table (probe mask 0x%x missed)", missed),
		                errdetail("The binary may have been built with link-time optimisation that calls the functions directly."),
		                errhint("Use the PostgreSQL packages of the distribution; \"pgseal doctor --binary\" examines a server.")));
}

} // namespace

void seam_install()
{
	const ServerSmgr stock = stock_smgr();
	Relro relro;
	dl_iterate_phdr(find_relro, &relro);
	if (relro.begin == relro.end)
		ereport(FATAL, (errmsg("pg_seal: the server's executable has no RELRO segment"),
		                errhint("Use a position-independent build with full RELRO, as distributions ship; see \"pgseal doctor --binary\".")));

	const Search found = search_table(relro, stock);
	if (found.matches != 1) {
		char nearest[256];
		describe_nearest(found, stock, nearest, sizeof nearest);
		ereport(FATAL, (errmsg("pg_seal: the storage manager table of PostgreSQL %d was found %d times in the server's executable, expected once",
		                       PG_VERSION_NUM / 10000, found.matches),
		                errdetail("Looked for %d pointers from \"%s\" to \"%s\"; %s.", kSmgrEntries, kSmgrEntryNames[0],
		                          kSmgrEntryNames[kSmgrEntries - 1], nearest),
		                errhint("Another extension may redirect storage, or this server build is not supported; see \"pgseal doctor --binary\".")));
	}
	write_table(found.table, sealing_smgr(stock));
	probe();
	snprintf(summary, sizeof summary, "storage manager table redirected; create, read, write, extend proved by calls");
	installed = true;
}

bool seam_installed() noexcept { return installed; }
const char* seam_summary() noexcept { return summary; }

} // namespace seal::pg
