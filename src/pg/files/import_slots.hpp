// The import slots of the server's executable: where its calls into the C library go.
//
// The executable's own dynamic section lists its relocations; those of type JUMP_SLOT and GLOB_DAT name a symbol and the place
// (a slot) that holds its address. In a build with full RELRO and immediate binding, as distributions ship it, every slot is
// resolved when the library is loaded and lies in memory that is read-only after relocation.
#pragma once

#include "../pg.hpp"

namespace seal::pg {

struct ImportSlot {
	const char* name;
	void** place;    // nullptr: the executable does not import this name
	void* c_library; // the C library's own function of that name
};

// Fills `place` and `c_library` of each slot from its name. FATAL, naming the function and who owns the present pointer, when a name has
// more than one slot or an unknown kind of relocation, when its slot is not in RELRO, or when it points elsewhere than into the C library.
void import_slots_find(ImportSlot* slots, int count);

void import_slot_write(const ImportSlot& slot, void* target); // FATAL when the memory cannot be made writable

} // namespace seal::pg
