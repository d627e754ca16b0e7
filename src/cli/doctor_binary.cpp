// Is this server binary one whose storage manager and sync tables can be found exactly once and redirected, and is the
// extension beside it?
#include "doctor.hpp"
#include "elf_image.hpp"
#include "file_text.hpp"
#include "subprocess.hpp"

#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

namespace seal::cli {

namespace fs = std::filesystem;

namespace {

constexpr char kArea[] = "binary";
constexpr char kStockRemedy[] = "Use the distribution's server package: pg_seal refuses to start in this one.";

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

// "postgres (PostgreSQL) 15.18 (Debian ...)" -> 15
int major_version(const std::string& line)
{
	const std::size_t digit = line.find_first_of("0123456789");
	return digit == std::string::npos ? 0 : std::atoi(line.c_str() + digit);
}

// postmaster.opts: the executable, then quoted options.
std::vector<std::string> read_start_options(const std::string& data_directory)
{
	std::vector<std::string> words;
	Result<std::string> text = read_text_file(data_directory + "/postmaster.opts");
	if (!text)
		return words;
	const std::string line = first_line(*text);
	std::size_t at = line.find(" \"");
	words.push_back(line.substr(0, at));
	while (at != std::string::npos) {
		const std::size_t end = line.find('"', at + 2);
		if (end == std::string::npos)
			break;
		words.push_back(line.substr(at + 2, end - at - 2));
		at = line.find(" \"", end);
	}
	return words;
}

std::string pg_config_value(const std::string& program, const char* option)
{
	Result<ProgramOutput> run = run_program({program, option});
	return run && run->exit_code == 0 ? first_line(run->output) : "";
}

} // namespace

std::vector<std::string> storage_manager_table(int major)
{
	if (major == 15)
		return {"mdinit",     "",       "mdopen",  "mdclose",     "mdcreate",  "mdexists",   "mdunlink",   "mdextend",
		        "mdprefetch", "mdread", "mdwrite", "mdwriteback", "mdnblocks", "mdtruncate", "mdimmedsync"};
	return {};
}

std::vector<std::string> sync_table(int major)
{
	if (major == 15)
		return {"mdsyncfiletag",
		        "mdunlinkfiletag",
		        "mdfiletagmatches",
		        "clogsyncfiletag",
		        "",
		        "",
		        "committssyncfiletag",
		        "",
		        "",
		        "multixactoffsetssyncfiletag",
		        "",
		        "",
		        "multixactmemberssyncfiletag",
		        "",
		        ""};
	return {};
}

void Doctor::find_binary()
{
	if (!options_.data_directory.empty())
		server_options_ = read_start_options(options_.data_directory);
	binary_ = options_.binary;
	if (binary_.empty() && !server_options_.empty())
		binary_ = server_options_[0];
	if (binary_.empty()) {
		const std::string directory = pg_config_value("pg_config", "--bindir");
		binary_ = directory.empty() ? "" : directory + "/postgres";
	}
}

void Doctor::check_binary()
{
	if (binary_.empty()) {
		problem(kArea, "no server executable is known", "Give it with --binary, or the data directory with -D.");
		return;
	}
	Result<ProgramOutput> version = run_program({binary_, "--version"});
	if (!version || version->exit_code != 0) {
		problem(kArea, version ? "\"" + binary_ + "\" --version fails" : version.error().message,
		        "Give the path of the server's executable with --binary.");
		return;
	}
	const std::string line = first_line(version->output);
	const int major = major_version(line);
	const std::vector<std::string> table = storage_manager_table(major);
	if (table.empty()) {
		problem(kArea, "\"" + binary_ + "\" is " + line + ", which is not supported", "Supported is PostgreSQL 15.");
		return;
	}
	ok(kArea, "\"" + binary_ + "\" is " + line);
	Result<ElfImage> image = read_elf_image(binary_);
	if (!image) {
		problem(kArea, image.error().message, kStockRemedy);
		return;
	}
	if (!image->position_independent)
		problem(kArea, "it is not a position-independent executable", kStockRemedy);
	if (image->relro.empty() || !image->bind_now)
		problem(kArea, "it is not linked with full RELRO (-z relro -z now)", kStockRemedy);
	if (image->position_independent && !image->relro.empty() && image->bind_now)
		ok(kArea, "position-independent, full RELRO, " + image->machine);
	check_table(*image, "storage manager", table);
	check_table(*image, "sync", sync_table(major));
	check_imports(*image);
}

// WAL, temporary and spill files pass through these (src/pg/files/file_seam.cpp).
void Doctor::check_imports(const ElfImage& image)
{
	std::string wrong;
	for (const char* name : {"open", "close", "read", "write", "pread", "pwrite", "pwritev", "ftruncate"}) {
		const auto plain = image.imports.find(name), wide = image.imports.find(std::string(name) + "64");
		const std::size_t slots = (plain == image.imports.end() ? 0 : plain->second.size()) +
		                          (wide == image.imports.end() ? 0 : wide->second.size());
		if (slots != 1)
			wrong += (wrong.empty() ? "" : ", ") + std::string(name) + " (" + std::to_string(slots) + ")";
	}
	if (wrong.empty())
		ok(kArea, "the import slots of the file functions stand in it once each");
	else
		problem(kArea, "import slots of file functions do not stand in it once each: " + wrong, kStockRemedy);
}

void Doctor::check_table(const ElfImage& image, const char* what, const std::vector<std::string>& table)
{
	const std::string name = std::string(what) + " table (" + std::to_string(table.size()) + " entries)";
	std::vector<std::string> missing;
	const std::vector<std::uint64_t> places = find_pointer_table(image, table, missing);
	if (!missing.empty()) {
		std::string names;
		for (const std::string& function : missing)
			names += (names.empty() ? "" : ", ") + function;
		problem(kArea, "it does not export " + names, kStockRemedy);
	} else if (places.size() != 1) {
		problem(kArea, "the " + name + " stands " + std::to_string(places.size()) + " times in it instead of once",
		        kStockRemedy);
	} else {
		char address[32];
		std::snprintf(address, sizeof address, "0x%llx", static_cast<unsigned long long>(places[0]));
		ok(kArea, "the " + name + " stands in it once, at " + address);
	}
}

void Doctor::check_extension()
{
	constexpr char kExtension[] = "extension";
	if (binary_.empty())
		return;
	const std::string directory = fs::path(binary_).parent_path().string();
	std::string program = directory + "/pg_config";
	if (!fs::exists(program))
		program = "pg_config";
	const std::string bin = pg_config_value(program, "--bindir"), libraries = pg_config_value(program, "--pkglibdir"),
					  shared = pg_config_value(program, "--sharedir");
	std::error_code ignored;
	if (bin.empty() || fs::weakly_canonical(bin, ignored) != fs::weakly_canonical(directory, ignored)) {
		warn(kExtension, "no pg_config tells where this server's extensions are",
		     "Install the server's development package, or check "
		     "by hand that pg_seal.so, pg_seal.control and pgseal are installed.");
		return;
	}
	const std::string files[] = {libraries + "/pg_seal.so", shared + "/extension/pg_seal.control", bin + "/pgseal",
	                             libraries + "/libseal_preload.so"};
	bool whole = true;
	for (const std::string& file : files)
		if (!fs::exists(file, ignored)) {
			problem(kExtension, "\"" + file + "\" is not there", "Install pg_seal for this server (make install).");
			whole = false;
		}
	if (whole)
		ok(kExtension, "pg_seal is installed in " + libraries);
}

} // namespace seal::cli
