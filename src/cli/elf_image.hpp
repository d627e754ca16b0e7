// A 64-bit little-endian ELF executable as a file: what decides whether its storage manager and sync tables and its
// import slots can be found and redirected.
//
// Every offset in the file is checked against its size: the file is input, not a promise.
#pragma once

#include "seal/result.hpp"

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace seal::cli {

struct AddressRange {
	std::uint64_t begin = 0, end = 0;
	bool contains(std::uint64_t address) const { return address >= begin && address < end; }
};

struct ElfImage {
	std::string machine;                             // "x86_64", "aarch64"
	bool position_independent = false;               // ET_DYN with an interpreter
	bool bind_now = false;                           // DT_BIND_NOW, DF_BIND_NOW or DF_1_NOW
	std::vector<AddressRange> relro;                 // PT_GNU_RELRO
	std::map<std::string, std::uint64_t> functions;  // defined, exported function symbols and their addresses
	std::map<std::string, std::set<std::uint64_t>> imports; // functions of libraries: the slots that lead to them
	std::map<std::uint64_t, std::uint64_t> pointers; // relocated with the load address: where -> what it points to
};

Result<ElfImage> read_elf_image(const std::string& path);

// Addresses in the RELRO segments at which the pointers named by `table` stand one after another; an empty name is a
// null pointer. Names that the image does not export are put into `missing`.
std::vector<std::uint64_t> find_pointer_table(const ElfImage& image, const std::vector<std::string>& table,
                                              std::vector<std::string>& missing);

} // namespace seal::cli
