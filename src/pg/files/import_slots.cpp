#include "import_slots.hpp"

#include "../storage/pointer_table.hpp"

#include <cstdint>
#include <cstring>
#include <dlfcn.h>
#include <elf.h>
#include <gnu/lib-names.h>
#include <link.h>

namespace seal::pg {

namespace {

#if defined(__x86_64__)
constexpr unsigned kJumpSlot = R_X86_64_JUMP_SLOT, kGlobDat = R_X86_64_GLOB_DAT;
#elif defined(__aarch64__)
constexpr unsigned kJumpSlot = R_AARCH64_JUMP_SLOT, kGlobDat = R_AARCH64_GLOB_DAT;
#else
#error "the relocation types of this processor are not known here"
#endif

constexpr const char* kDoctorHint =
	"Use the PostgreSQL packages of the distribution; \"pgseal doctor --binary\" examines a server.";

// The main executable, as the dynamic loader has it.
struct Executable {
	std::uintptr_t base = 0, relro_begin = 0, relro_end = 0;
	const ElfW(Sym) * symbols = nullptr;
	const char* strings = nullptr;
	const ElfW(Rela) * tables[2] = {}; // DT_JMPREL, DT_RELA
	std::size_t counts[2] = {};
};

// glibc turns these entries into addresses; other loaders leave them relative.
std::uintptr_t address_of(const Executable& exe, const ElfW(Dyn) & entry) noexcept
{
	return entry.d_un.d_ptr < exe.base ? exe.base + entry.d_un.d_ptr : entry.d_un.d_ptr;
}

void read_dynamic(Executable& exe, const ElfW(Dyn) * entry) noexcept
{
	for (; entry->d_tag != DT_NULL; ++entry) {
		switch (entry->d_tag) {
		case DT_SYMTAB: exe.symbols = reinterpret_cast<const ElfW(Sym)*>(address_of(exe, *entry)); break;
		case DT_STRTAB: exe.strings = reinterpret_cast<const char*>(address_of(exe, *entry)); break;
		case DT_JMPREL: exe.tables[0] = reinterpret_cast<const ElfW(Rela)*>(address_of(exe, *entry)); break;
		case DT_PLTRELSZ: exe.counts[0] = entry->d_un.d_val / sizeof(ElfW(Rela)); break;
		case DT_RELA: exe.tables[1] = reinterpret_cast<const ElfW(Rela)*>(address_of(exe, *entry)); break;
		case DT_RELASZ: exe.counts[1] = entry->d_un.d_val / sizeof(ElfW(Rela)); break;
		default: break;
		}
	}
}

// The first object that dl_iterate_phdr(3) shows is the main executable.
int read_executable(dl_phdr_info* info, std::size_t, void* out)
{
	Executable& exe = *static_cast<Executable*>(out);
	exe.base = info->dlpi_addr;
	for (int i = 0; i < info->dlpi_phnum; ++i) {
		const ElfW(Phdr)& header = info->dlpi_phdr[i];
		if (header.p_type == PT_DYNAMIC)
			read_dynamic(exe, reinterpret_cast<const ElfW(Dyn)*>(exe.base + header.p_vaddr));
		if (header.p_type == PT_GNU_RELRO) {
			exe.relro_begin = exe.base + header.p_vaddr;
			exe.relro_end = exe.relro_begin + header.p_memsz;
		}
	}
	return 1;
}

void find_place(const Executable& exe, ImportSlot& slot)
{
	for (int table = 0; table < 2; ++table) {
		if (!exe.tables[table])
			continue;
		for (std::size_t i = 0; i < exe.counts[table]; ++i) {
			const ElfW(Rela)& relocation = exe.tables[table][i];
			const std::size_t symbol = ELF64_R_SYM(relocation.r_info);
			if (symbol == 0 || strcmp(exe.strings + exe.symbols[symbol].st_name, slot.name) != 0)
				continue;
			const unsigned type = static_cast<unsigned>(ELF64_R_TYPE(relocation.r_info));
			void** const place = reinterpret_cast<void**>(exe.base + relocation.r_offset);
			if ((type != kJumpSlot && type != kGlobDat) || (slot.place && slot.place != place))
				ereport(FATAL,
				        (errmsg("pg_seal: the server's executable reaches \"%s\" in more than one way", slot.name),
				         errdetail("Expected one import slot; found another relocation, of type %u.", type),
				         errhint("%s", kDoctorHint)));
			slot.place = place;
		}
	}
	if (!slot.place)
		return;
	const std::uintptr_t at = reinterpret_cast<std::uintptr_t>(slot.place);
	if (at < exe.relro_begin || at + sizeof(void*) > exe.relro_end)
		ereport(FATAL, (errmsg("pg_seal: the import slot of \"%s\" is not in the server's RELRO segment", slot.name),
		                errdetail("The server's executable was not built with full RELRO and immediate binding."),
		                errhint("%s", kDoctorHint)));
}

void check_owner(const ImportSlot& slot)
{
	void* const now = *slot.place;
	if (now == slot.c_library)
		return;
	Dl_info who;
	const bool known = now && dladdr(now, &who) != 0 && who.dli_fname;
	ereport(FATAL,
	        (errmsg("pg_seal: the server's import slot of \"%s\" does not point into the C library", slot.name),
	         errdetail("It points into %s.", known ? who.dli_fname : "memory that belongs to no loaded file"),
	         errhint("Start the server without libraries that intercept file access: preloaded ones (LD_PRELOAD, "
	                 "/etc/ld.so.preload), sanitizers, debuggers of memory or files, other extensions.")));
}

} // namespace

void import_slots_find(ImportSlot* slots, int count)
{
	Executable exe;
	dl_iterate_phdr(read_executable, &exe);
	if (!exe.symbols || !exe.strings || !exe.tables[0])
		ereport(FATAL,
		        (errmsg("pg_seal: the server's executable has no dynamic relocations"),
		         errdetail("Looked for its symbol table, string table and import slots."), errhint("%s", kDoctorHint)));
	void* const c_library = dlopen(LIBC_SO, RTLD_LAZY | RTLD_NOLOAD);
	if (!c_library)
		ereport(FATAL,
		        (errmsg("pg_seal: the server does not use %s", LIBC_SO), errhint("pg_seal needs the GNU C library.")));
	for (int i = 0; i < count; ++i) {
		find_place(exe, slots[i]);
		slots[i].c_library = dlsym(c_library, slots[i].name);
		if (slots[i].place && !slots[i].c_library)
			ereport(FATAL, (errmsg("pg_seal: the C library has no function \"%s\"", slots[i].name)));
		if (slots[i].place)
			check_owner(slots[i]);
	}
	dlclose(c_library);
}

void import_slot_write(const ImportSlot& slot, void* target)
{
	const PointerTable table = {"import slots", &slot.name, &slot.c_library, 1};
	pointer_table_write(table, slot.place, &target);
}

} // namespace seal::pg
