#include "pointer_table.hpp"

#include <cstdint>
#include <cstring>
#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

namespace seal::pg {

namespace {

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
	void** place = nullptr; // the last full match
	int matches = 0;
	void** nearest = nullptr; // most entries equal, for the message
	int nearest_equal = 0;
};

Search search(const Relro& relro, const PointerTable& table) noexcept
{
	Search found;
	const auto align = alignof(void*);
	const std::size_t size = sizeof(void*) * static_cast<std::size_t>(table.entries);
	for (std::uintptr_t at = (relro.begin + align - 1) / align * align; at + size <= relro.end; at += align) {
		void** candidate = reinterpret_cast<void**>(at);
		if (memcmp(candidate, table.stock, size) == 0) {
			found.place = candidate;
			++found.matches;
			continue;
		}
		int equal = 0;
		for (int i = 0; i < table.entries; ++i)
			equal += candidate[i] == table.stock[i] && candidate[i] != nullptr;
		if (equal > found.nearest_equal) {
			found.nearest = candidate;
			found.nearest_equal = equal;
		}
	}
	return found;
}

// Names who replaced the first differing entry of a nearly matching table.
void describe_nearest(const Search& found, const PointerTable& table, char* out, std::size_t size)
{
	int pointers = 0;
	for (int i = 0; i < table.entries; ++i)
		pointers += table.stock[i] != nullptr;
	if (!found.nearest || found.nearest_equal < pointers / 2) {
		snprintf(out, size, "no table resembling it is there");
		return;
	}
	for (int i = 0; i < table.entries; ++i) {
		if (found.nearest[i] == table.stock[i])
			continue;
		Dl_info who;
		if (found.nearest[i] && dladdr(found.nearest[i], &who) && who.dli_fname)
			snprintf(out, size, "entry \"%s\" of the table already points into %s", table.names[i], who.dli_fname);
		else
			snprintf(out, size, "entry \"%s\" of the table differs", table.names[i]);
		return;
	}
}

} // namespace

void** pointer_table_find(const PointerTable& table)
{
	Relro relro;
	dl_iterate_phdr(find_relro, &relro);
	if (relro.begin == relro.end)
		ereport(FATAL, (errmsg("pg_seal: the server's executable has no RELRO segment"),
		                errhint("Use a position-independent build with full RELRO, as distributions ship; see \"pgseal "
		                        "doctor --binary\".")));
	const Search found = search(relro, table);
	if (found.matches == 1)
		return found.place;
	char nearest[256];
	describe_nearest(found, table, nearest, sizeof nearest);
	ereport(FATAL,
	        (errmsg("pg_seal: the %s of PostgreSQL %d was found %d times in the server's executable, expected once",
	                table.what, PG_VERSION_NUM / 10000, found.matches),
	         errdetail("Looked for %d pointers from \"%s\" to \"%s\"; %s.", table.entries, table.names[0],
	                   table.names[table.entries - 1], nearest),
	         errhint("Another extension may redirect storage, or this server build is not supported; see \"pgseal "
	                 "doctor --binary\".")));
	pg_unreachable();
}

void pointer_table_write(const PointerTable& table, void** place, void* const* entries)
{
	const std::size_t size = sizeof(void*) * static_cast<std::size_t>(table.entries);
	const std::uintptr_t page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
	const std::uintptr_t begin = reinterpret_cast<std::uintptr_t>(place) / page * page;
	const std::uintptr_t end = (reinterpret_cast<std::uintptr_t>(place) + size + page - 1) / page * page;
	if (mprotect(reinterpret_cast<void*>(begin), end - begin, PROT_READ | PROT_WRITE) != 0)
		ereport(
			FATAL,
			(errmsg("pg_seal could not make the %s writable: %m", table.what),
		     errhint("A security policy may forbid it. Allow the server to change the protection of its own memory.")));
	memcpy(place, entries, size);
	if (mprotect(reinterpret_cast<void*>(begin), end - begin, PROT_READ) != 0)
		ereport(FATAL, (errmsg("pg_seal could not make the %s read-only again: %m", table.what)));
}

} // namespace seal::pg
