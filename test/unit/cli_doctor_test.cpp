// `pgseal doctor`: the real server binary is fit, altered and foreign ones are not, and every finding says what to do.
#include "softhsm_token.hpp"

#include "data_files.hpp"
#include "doctor.hpp"
#include "elf_image.hpp"
#include "text_table.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <fstream>

namespace seal::cli {
namespace {

using nlohmann::json;

constexpr char kPgseal[] = SEAL_BINARY_DIR "/pgseal";

std::string server_binary()
{
	const test::CommandResult bindir = test::run({"pg_config", "--bindir"});
	EXPECT_EQ(bindir.exit_code, 0) << "apt-get install postgresql-server-dev-15";
	return bindir.output.substr(0, bindir.output.find('\n')) + "/postgres";
}

std::string read_file(const std::string& path)
{
	std::ifstream file(path, std::ios::binary);
	return {std::istreambuf_iterator<char>(file), {}};
}

json doctor(std::vector<std::string> options, int exit_code = -1)
{
	options.insert(options.begin(), {kPgseal, "doctor", "--json"});
	const test::CommandResult result = test::run(options);
	if (exit_code >= 0) {
		EXPECT_EQ(result.exit_code, exit_code) << result.output << result.errors;
	}
	const json document = json::parse(result.output, nullptr, false);
	EXPECT_TRUE(document.is_object()) << result.output << result.errors;
	for (const json& finding : document["findings"])
		EXPECT_EQ(finding["remedy"] == "", finding["level"] == "ok") << finding;
	return document;
}

bool has(const json& document, const std::string& area, const std::string& level, const std::string& part)
{
	for (const json& finding : document["findings"])
		if (finding["area"] == area && finding["level"] == level &&
		    finding["finding"].get<std::string>().find(part) != std::string::npos)
			return true;
	return false;
}

TEST(CliDoctor, the_stock_server_is_fit)
{
	const json document = doctor({"--binary", server_binary()});
	EXPECT_TRUE(has(document, "binary", "ok", "PostgreSQL) 15")) << document.dump(1);
	EXPECT_TRUE(has(document, "binary", "ok", "full RELRO")) << document.dump(1);
	EXPECT_TRUE(has(document, "binary", "ok", "storage manager table (15 entries) stands in it once"))
		<< document.dump(1);
	EXPECT_TRUE(has(document, "binary", "ok", "sync table (15 entries) stands in it once")) << document.dump(1);
	EXPECT_TRUE(has(document, "binary", "ok", "import slots of the file functions stand in it once each")) << document.dump(1);
}

TEST(CliDoctor, the_table_of_sync_requests_is_told_from_altered_ones)
{
	Result<ElfImage> image = read_elf_image(server_binary());
	ASSERT_TRUE(image) << image.error().message;
	std::vector<std::string> missing;
	const std::vector<std::uint64_t> found = find_pointer_table(*image, sync_table(15), missing);
	ASSERT_EQ(found.size(), 1u);

	ElfImage filled = *image;
	filled.pointers[found[0] + 4 * 8] = 1; // pg_xact has no function for unlinking
	EXPECT_TRUE(find_pointer_table(filled, sync_table(15), missing).empty());

	ElfImage stripped = *image;
	stripped.functions.erase("clogsyncfiletag");
	EXPECT_TRUE(find_pointer_table(stripped, sync_table(15), missing).empty());
	EXPECT_EQ(missing, std::vector<std::string>{"clogsyncfiletag"});
}

TEST(CliDoctor, a_binary_whose_table_is_altered_is_not)
{
	Result<ElfImage> image = read_elf_image(server_binary());
	ASSERT_TRUE(image) << image.error().message;
	std::vector<std::string> missing;
	ASSERT_EQ(find_pointer_table(*image, storage_manager_table(15), missing).size(), 1u);
	const std::uint64_t table = find_pointer_table(*image, storage_manager_table(15), missing)[0];

	ElfImage swapped = *image;
	std::swap(swapped.pointers[table + 9 * 8], swapped.pointers[table + 10 * 8]);
	EXPECT_TRUE(find_pointer_table(swapped, storage_manager_table(15), missing).empty());

	ElfImage filled = *image;
	filled.pointers[table + 8] = 1; // shutdown is a null pointer
	EXPECT_TRUE(find_pointer_table(filled, storage_manager_table(15), missing).empty());

	ElfImage twice = *image;
	const std::uint64_t copy = twice.relro[0].begin;
	for (std::size_t i = 0; i < 15; ++i) {
		twice.pointers.erase(copy + 8 * i);
		if (i != 1)
			twice.pointers[copy + 8 * i] = twice.pointers[table + 8 * i];
	}
	EXPECT_EQ(find_pointer_table(twice, storage_manager_table(15), missing).size(), 2u);

	ElfImage writable = *image;
	writable.relro.clear();
	EXPECT_TRUE(find_pointer_table(writable, storage_manager_table(15), missing).empty());

	ElfImage stripped = *image;
	stripped.functions.erase("mdread");
	EXPECT_TRUE(find_pointer_table(stripped, storage_manager_table(15), missing).empty());
	EXPECT_EQ(missing, std::vector<std::string>{"mdread"});
}

TEST(CliDoctor, reads_packed_relocations_and_survives_truncated_files)
{
	const test::TemporaryDirectory directory;
	const std::string whole = read_file(server_binary());
	for (std::size_t size : {0u, 10u, 64u, 500u, 4000u, 100000u, 1000000u})
		EXPECT_FALSE(read_elf_image(directory.write("short", whole.substr(0, size)))) << size;
	// A small program with DT_RELR where the linker can make it; the same pointers must be found.
	directory.write(
		"t.c",
		"int mdinit(void){return 1;} int mdopen(void){return 2;}\n"
		"int (*const table[])(void) = {mdinit, 0, mdopen}; int main(void){return table[0]() + (table[2] == 0);}\n");
	for (const char* packing : {"-Wl,-z,nopack-relative-relocs", "-Wl,-z,pack-relative-relocs"}) {
		const test::CommandResult built = test::run({"gcc", "-pie", "-fPIE", "-rdynamic", "-Wl,-z,relro,-z,now",
		                                             packing, directory.file("t.c"), "-o", directory.file("t")});
		if (built.exit_code != 0)
			continue; // an older linker knows neither; the option for none is its only behaviour
		Result<ElfImage> image = read_elf_image(directory.file("t"));
		ASSERT_TRUE(image) << image.error().message;
		std::vector<std::string> missing;
		EXPECT_EQ(find_pointer_table(*image, {"mdinit", "", "mdopen"}, missing).size(), 1u) << packing;
		EXPECT_TRUE(image->position_independent && image->bind_now);
	}
	ASSERT_EQ(
		test::run({"gcc", "-no-pie", "-Wl,-z,norelro", directory.file("t.c"), "-o", directory.file("t")}).exit_code, 0);
	Result<ElfImage> image = read_elf_image(directory.file("t"));
	ASSERT_TRUE(image);
	EXPECT_FALSE(image->position_independent);
	EXPECT_TRUE(image->relro.empty());
}

TEST(CliDoctor, other_programs_and_versions_are_problems)
{
	const test::TemporaryDirectory directory;
	EXPECT_TRUE(has(doctor({"--binary", "/nowhere/postgres"}, 1), "binary", "problem", "/nowhere/postgres"));
	const std::string old = directory.write("postgres", "#!/bin/sh\necho 'postgres (PostgreSQL) 9.6.24'\n", 0755);
	EXPECT_TRUE(has(doctor({"--binary", old}, 1), "binary", "problem", "9.6.24, which is not supported"));
	const std::string script = directory.write("postgres15", "#!/bin/sh\necho 'postgres (PostgreSQL) 15.1'\n", 0755);
	EXPECT_TRUE(has(doctor({"--binary", script}, 1), "binary", "problem", "is not an ELF file"));
}

TEST(CliDoctor, settings_are_asked_of_the_server_itself)
{
	const test::TemporaryDirectory data;
	data.write("postgresql.conf", "shared_preload_libraries = 'auto_explain, $libdir/pg_seal'\n");
	const std::string binary = server_binary();
	json document = doctor({"--binary", binary, "-D", data.path()}, 1); // no pg_control there
	EXPECT_TRUE(has(document, "settings", "ok", "has pg_seal")) << document.dump(1);
	EXPECT_TRUE(has(document, "data directory", "problem", "pg_control")) << document.dump(1);
	data.write("postgresql.conf", "dynamic_shared_memory_type = mmap\nfull_page_writes = off\n");
	document = doctor({"--binary", binary, "-D", data.path()}, 1);
	EXPECT_TRUE(has(document, "settings", "problem", "without pg_seal")) << document.dump(1);
	EXPECT_TRUE(has(document, "settings", "problem", "mmap")) << document.dump(1);
	EXPECT_TRUE(has(document, "settings", "warning", "full_page_writes")) << document.dump(1);
	data.write("postmaster.opts",
	           binary + " \"-D\" \"" + data.path() + "\" \"-c\" \"config_file=" + data.file("elsewhere") + "\"\n");
	data.write("elsewhere", "shared_preload_libraries = 'pg_seal'\n");
	document = doctor({"-D", data.path()});
	EXPECT_TRUE(has(document, "settings", "ok", "has pg_seal")) << document.dump(1);
}

TEST(CliDoctor, a_provider_is_tried_and_explained)
{
	test::SoftHsm hsm;
	hsm.add_token("seal");
	const std::string good = hsm.directory().write("good.json", hsm.config("seal"));
	EXPECT_TRUE(has(doctor({"--binary", server_binary(), "--provider-config", good}), "provider", "ok",
	                "token 'seal', serial"));
	const std::string missing = hsm.directory().write("missing.json", hsm.config("other"));
	EXPECT_TRUE(has(doctor({"--provider-config", missing}, 1), "provider", "problem", "'other' is not present"));
	const std::string bad = hsm.directory().write("bad.json", R"({"module":"/m.so","token":"t","pin":"hunter2"})");
	const json document = doctor({"--provider-config", bad}, 1);
	EXPECT_TRUE(has(document, "provider", "problem", "'pin'"));
	EXPECT_EQ(document.dump().find("hunter2"), std::string::npos);
}

TEST(CliCommand, version_help_and_usage)
{
	EXPECT_EQ(test::run({kPgseal, "--version"}).output.rfind("pgseal (pg_seal) 1.", 0), 0u);
	const test::CommandResult help = test::run({kPgseal, "--help"});
	EXPECT_EQ(help.exit_code, 0);
	for (const char* command : {"status", "doctor", "scan", "unlock", "agent"})
		EXPECT_NE(help.output.find(command), std::string::npos) << command;
	EXPECT_EQ(test::run({kPgseal}).exit_code, 2);
	EXPECT_EQ(test::run({kPgseal, "unheard-of"}).exit_code, 2);
	EXPECT_EQ(test::run({kPgseal, "agent", "--fd", "77"}).exit_code, 2);
}

TEST(CliCommand, status_without_a_server_cannot_connect)
{
	const test::TemporaryDirectory nowhere;
	const test::CommandResult result = test::run({kPgseal, "status", "-h", nowhere.path(), "-p", "1"});
	EXPECT_EQ(result.exit_code, 2);
	EXPECT_NE(result.errors.find(nowhere.path()), std::string::npos) << result.errors;
	EXPECT_EQ(test::run({kPgseal, "status", "host=" + nowhere.path() + " port=1"}).exit_code, 2);
}

TEST(DataFiles, names_of_relation_files)
{
	const auto parse = [](const char* name) {
		RelationFile file;
		if (!parse_relation_name(name, file))
			return std::string("no");
		return std::to_string(file.rel_node) + " " + file.fork + " " + std::to_string(file.segment) +
		       (file.temporary ? " t" : "");
	};
	EXPECT_EQ(parse("16384"), "16384 main 0");
	EXPECT_EQ(parse("16384.12"), "16384 main 12");
	EXPECT_EQ(parse("16384_fsm"), "16384 fsm 0");
	EXPECT_EQ(parse("16384_vm.1"), "16384 vm 1");
	EXPECT_EQ(parse("16384_init"), "16384 init 0");
	EXPECT_EQ(parse("t12_16384_fsm.3"), "16384 fsm 3 t");
	EXPECT_EQ(parse("4294967295"), "4294967295 main 0");
	for (const char* name :
	     {"", "0", "016384", "16384.", "16384.0", "16384.x", "16384_", "16384_foo", "pg_seal_keys", "PG_VERSION",
	      "pg_filenode.map", "t_16384", "t3_", "4294967296", "16384.1.2", "-1", "+1", " 1"})
		EXPECT_EQ(parse(name), "no") << name;
}

TEST(TextTable, aligns_and_defuses)
{
	const TextTable table{{"name", "n"}, {{"k\xc3\xa9y", "1"}, {"longer\x1b[31m", "1000"}}};
	EXPECT_EQ(table.text(), "name            n\nk\xc3\xa9y             1\nlonger?[31m  1000\n");
}

} // namespace
} // namespace seal::cli
