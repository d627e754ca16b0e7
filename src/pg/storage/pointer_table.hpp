// A constant table of function pointers in the server's executable: finding it by its contents and changing it.
//
// Such tables (smgr.c's, sync.c's) are private symbols, but what they hold are exported functions, and in a position-independent build
// with full RELRO they lie in the segment that is read-only after relocation. There the sequence must stand exactly once.
#pragma once

#include "../pg.hpp"

#include <cstddef>

namespace seal::pg {

struct PointerTable {
	const char* what;         // "storage manager table", for messages
	const char* const* names; // one for each entry; "(null)" where the pointer is null
	void* const* stock;       // the pointers that the stock server has there
	int entries;
};

// FATAL, saying what was looked for and what was found, unless the table stands in RELRO exactly once.
void** pointer_table_find(const PointerTable& table);
// Makes the table's memory writable for a moment and replaces its entries. FATAL when that is forbidden.
void pointer_table_write(const PointerTable& table, void** place, void* const* entries);

} // namespace seal::pg
