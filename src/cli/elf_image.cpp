#include "elf_image.hpp"

#include "file_text.hpp"

#include <cstring>
#include <elf.h>

namespace seal::cli {

namespace {

constexpr Elf64_Sxword kDtRelr = 36, kDtRelrSize = 35; // DT_RELR, DT_RELRSZ: newer than some systems' elf.h

class Parser {
public:
	explicit Parser(const std::string& bytes) : bytes_(bytes) {}

	Status parse(ElfImage& image)
	{
		Elf64_Ehdr header;
		if (!at(0, header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
			return bad("is not an ELF file");
		if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB)
			return bad("is not a 64-bit little-endian executable");
		if (header.e_machine == EM_X86_64) {
			image.machine = "x86_64";
			relative_ = R_X86_64_RELATIVE;
			import_ = {R_X86_64_JUMP_SLOT, R_X86_64_GLOB_DAT};
		} else if (header.e_machine == EM_AARCH64) {
			image.machine = "aarch64";
			relative_ = R_AARCH64_RELATIVE;
			import_ = {R_AARCH64_JUMP_SLOT, R_AARCH64_GLOB_DAT};
		} else {
			return bad("is for a processor that is not supported (x86_64 and aarch64 are)");
		}
		if (!read_segments(header, image) || !read_dynamic(image) || !read_symbols(header, image) ||
		    !read_relocations(image) || !read_import_slots(image))
			return bad("is damaged: an ELF table points outside of the file");
		return ok_status();
	}

private:
	static Error bad(const char* what) { return {ErrorCode::corrupt, what}; }

	template <class T> bool at(std::uint64_t offset, T& out) const
	{
		if (offset > bytes_.size() || bytes_.size() - offset < sizeof(T))
			return false;
		std::memcpy(&out, bytes_.data() + offset, sizeof(T));
		return true;
	}

	bool read_segments(const Elf64_Ehdr& header, ElfImage& image)
	{
		bool interpreter = false;
		for (unsigned i = 0; i < header.e_phnum; ++i) {
			Elf64_Phdr segment;
			if (!at(header.e_phoff + std::uint64_t{i} * sizeof segment, segment))
				return false;
			if (segment.p_type == PT_LOAD)
				loads_.push_back(segment);
			else if (segment.p_type == PT_DYNAMIC)
				dynamic_ = segment;
			else if (segment.p_type == PT_GNU_RELRO)
				image.relro.push_back({segment.p_vaddr, segment.p_vaddr + segment.p_memsz});
			else if (segment.p_type == PT_INTERP)
				interpreter = true;
		}
		image.position_independent = header.e_type == ET_DYN && interpreter;
		return true;
	}

	// Where an address of the running program lies in the file.
	bool file_offset(std::uint64_t address, std::uint64_t& offset) const
	{
		for (const Elf64_Phdr& load : loads_)
			if (address >= load.p_vaddr && address - load.p_vaddr < load.p_filesz) {
				offset = load.p_offset + (address - load.p_vaddr);
				return true;
			}
		return false;
	}

	bool read_dynamic(ElfImage& image)
	{
		for (std::uint64_t i = 0; i + sizeof(Elf64_Dyn) <= dynamic_.p_filesz; i += sizeof(Elf64_Dyn)) {
			Elf64_Dyn entry;
			if (!at(dynamic_.p_offset + i, entry))
				return false;
			if (entry.d_tag == DT_NULL)
				break;
			tags_[entry.d_tag] = entry.d_un.d_val;
		}
		image.bind_now = tags_.count(DT_BIND_NOW) || (tag(DT_FLAGS) & DF_BIND_NOW) || (tag(DT_FLAGS_1) & DF_1_NOW);
		return true;
	}

	std::uint64_t tag(Elf64_Sxword name) const
	{
		const auto found = tags_.find(name);
		return found == tags_.end() ? 0 : found->second;
	}

	// The dynamic symbol table stays in a stripped executable.
	bool read_symbols(const Elf64_Ehdr& header, ElfImage& image)
	{
		for (unsigned i = 0; i < header.e_shnum; ++i) {
			Elf64_Shdr section, strings;
			if (!at(header.e_shoff + std::uint64_t{i} * sizeof section, section))
				return false;
			if (section.sh_type != SHT_DYNSYM)
				continue;
			if (!at(header.e_shoff + std::uint64_t{section.sh_link} * sizeof strings, strings))
				return false;
			for (std::uint64_t s = 0; s + sizeof(Elf64_Sym) <= section.sh_size; s += sizeof(Elf64_Sym)) {
				Elf64_Sym symbol;
				if (!at(section.sh_offset + s, symbol))
					return false;
				if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC)
					continue;
				if (symbol.st_name >= strings.sh_size || strings.sh_offset > bytes_.size() ||
				    strings.sh_size > bytes_.size() - strings.sh_offset)
					return false;
				const char* name = bytes_.data() + strings.sh_offset + symbol.st_name;
				const std::string text(name, strnlen(name, strings.sh_size - symbol.st_name));
				if (symbol.st_shndx == SHN_UNDEF)
					undefined_[s / sizeof(Elf64_Sym)] = text;
				else
					image.functions[text] = symbol.st_value;
			}
		}
		return true;
	}

	bool read_relocations(ElfImage& image)
	{
		std::uint64_t offset = 0;
		if (tag(DT_RELA)) {
			if (!file_offset(tag(DT_RELA), offset))
				return false;
			for (std::uint64_t i = 0; i + sizeof(Elf64_Rela) <= tag(DT_RELASZ); i += sizeof(Elf64_Rela)) {
				Elf64_Rela relocation;
				if (!at(offset + i, relocation))
					return false;
				if (ELF64_R_TYPE(relocation.r_info) == relative_)
					image.pointers[relocation.r_offset] = static_cast<std::uint64_t>(relocation.r_addend);
			}
		}
		return !tag(kDtRelr) || read_packed_relocations(image);
	}

	// Where the loader puts the addresses of functions that other libraries define.
	bool read_import_slots(ElfImage& image)
	{
		const std::pair<Elf64_Sxword, Elf64_Sxword> tables[] = {{DT_JMPREL, DT_PLTRELSZ}, {DT_RELA, DT_RELASZ}};
		for (const auto& [table, table_size] : tables) {
			std::uint64_t offset = 0;
			if (tag(table) && !file_offset(tag(table), offset))
				return false;
			for (std::uint64_t i = 0; tag(table) && i + sizeof(Elf64_Rela) <= tag(table_size); i += sizeof(Elf64_Rela)) {
				Elf64_Rela relocation;
				if (!at(offset + i, relocation))
					return false;
				const auto symbol = undefined_.find(ELF64_R_SYM(relocation.r_info));
				const std::uint32_t type = ELF64_R_TYPE(relocation.r_info);
				if (symbol != undefined_.end() && (type == import_.first || type == import_.second))
					image.imports[symbol->second].insert(relocation.r_offset);
			}
		}
		return true;
	}

	// DT_RELR: an even word is an address; an odd one is a bitmap over the 63 words that follow. The pointer's value
	// is in place.
	bool read_packed_relocations(ElfImage& image)
	{
		std::uint64_t offset = 0, next = 0;
		if (!file_offset(tag(kDtRelr), offset))
			return false;
		for (std::uint64_t i = 0; i + 8 <= tag(kDtRelrSize); i += 8) {
			std::uint64_t word = 0;
			if (!at(offset + i, word))
				return false;
			if ((word & 1) == 0) {
				if (!add_in_place(word, image))
					return false;
				next = word + 8;
				continue;
			}
			for (unsigned bit = 1; bit < 64; ++bit)
				if ((word >> bit & 1) && !add_in_place(next + (bit - 1) * 8, image))
					return false;
			next += 63 * 8;
		}
		return true;
	}

	bool add_in_place(std::uint64_t address, ElfImage& image)
	{
		std::uint64_t offset = 0, value = 0;
		if (!file_offset(address, offset) || !at(offset, value))
			return false;
		image.pointers[address] = value;
		return true;
	}

	const std::string& bytes_;
	std::vector<Elf64_Phdr> loads_;
	Elf64_Phdr dynamic_{};
	std::map<Elf64_Sxword, std::uint64_t> tags_;
	std::uint32_t relative_ = 0;
	std::pair<std::uint32_t, std::uint32_t> import_; // types of relocations
	std::map<std::uint64_t, std::string> undefined_; // dynamic symbols by their number
};

} // namespace

Result<ElfImage> read_elf_image(const std::string& path)
{
	Result<std::string> bytes = read_text_file(path);
	if (!bytes)
		return bytes.error();
	ElfImage image;
	if (Status status = Parser(*bytes).parse(image); !status)
		return Error(status.error().code, "\"" + path + "\" " + status.error().message);
	return image;
}

std::vector<std::uint64_t> find_pointer_table(const ElfImage& image, const std::vector<std::string>& table,
                                              std::vector<std::string>& missing)
{
	std::vector<std::uint64_t> wanted, found;
	for (const std::string& name : table) {
		const auto symbol = image.functions.find(name);
		if (!name.empty() && symbol == image.functions.end())
			missing.push_back(name);
		wanted.push_back(name.empty() || symbol == image.functions.end() ? 0 : symbol->second);
	}
	if (!missing.empty())
		return found;
	const auto in_relro = [&](std::uint64_t address) {
		for (const AddressRange& range : image.relro)
			if (range.contains(address))
				return true;
		return false;
	};
	for (const auto& [address, target] : image.pointers) {
		if (target != wanted[0] || !in_relro(address) || !in_relro(address + 8 * wanted.size() - 1))
			continue;
		bool whole = true;
		for (std::size_t i = 0; whole && i < wanted.size(); ++i) {
			const auto slot = image.pointers.find(address + 8 * i);
			whole = wanted[i] == 0 ? slot == image.pointers.end()
			                       : slot != image.pointers.end() && slot->second == wanted[i];
		}
		if (whole)
			found.push_back(address);
	}
	return found;
}

} // namespace seal::cli
