// `pgseal scan` on data directories made here: every kind of page, of file and of expectation.
#include "sample_page.hpp"
#include "softhsm_token.hpp"

#include "seal/key_slot.hpp"
#include "seal/page_cipher.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <map>
#include <unistd.h>

namespace seal {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::Page;

constexpr char kPgseal[] = SEAL_BINARY_DIR "/pgseal";
constexpr std::uint32_t kCatalog = 202209061;
constexpr std::uint32_t kSegmentBlocks = 131072;
constexpr std::uint8_t kGeneration = 77;

std::uint32_t crc32c(const std::string& bytes)
{
	std::uint32_t crc = ~0u;
	for (char c : bytes) {
		crc ^= static_cast<unsigned char>(c);
		for (int bit = 0; bit < 8; ++bit)
			crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return ~crc;
}

void set_u32(std::string& bytes, std::size_t at, std::uint32_t value)
{
	std::memcpy(bytes.data() + at, &value, sizeof value);
}

void append(const std::string& path, const void* bytes, std::size_t size)
{
	std::ofstream file(path, std::ios::binary | std::ios::app);
	file.write(static_cast<const char*>(bytes), static_cast<std::streamsize>(size));
}

class CliScan : public testing::Test {
protected:
	CliScan()
	{
		for (const char* directory : {"base/5", "base/16390", "global", "pg_tblspc"})
			fs::create_directories(data_.file(directory));
		data_.write("PG_VERSION", "15\n");
		write_control(true, 1);
		location_ = other_.file("secure");
		fs::create_directories(location_ + "/PG_15_" + std::to_string(kCatalog) + "/16390");
		fs::create_symlink(location_, data_.file("pg_tblspc/16401"));
		EXPECT_TRUE(cipher_.init(CipherId::aes_256_xts, test::sample_seed(1).data()));
	}

	void write_control(bool checksums, std::uint32_t state)
	{
		std::string control(8192, '\0');
		set_u32(control, 8, 1300);
		set_u32(control, 12, kCatalog);
		set_u32(control, 16, state);
		set_u32(control, 216, 8192);
		set_u32(control, 220, kSegmentBlocks);
		set_u32(control, 252, checksums ? 1 : 0);
		set_u32(control, 288, crc32c(control.substr(0, 288)));
		data_.write("global/pg_control", control);
	}

	std::string secure(const std::string& name) const
	{
		return location_ + "/PG_15_" + std::to_string(kCatalog) + "/16390/" + name;
	}
	std::string base(const std::string& name) const { return data_.file("base/16390/" + name); }

	static void add(const std::string& path, Page page, std::uint32_t block)
	{
		test::put_u16(page.data(), kPageChecksumOffset, page_checksum(page.data(), block));
		append(path, page.data(), page.size());
	}
	static Page plain(std::uint32_t block) { return test::sample_page(block); }
	Page sealed(std::uint32_t block, ForkClass fork = ForkClass::main, std::uint8_t generation = kGeneration)
	{
		Page out;
		EXPECT_TRUE(cipher_.seal(plain(block).data(), out.data(), block, fork, generation));
		return out;
	}
	static void add_zero(const std::string& path) { append(path, Page{}.data(), kPageSize); }

	// A key file in base/16390 with these slots.
	void add_key_file(const std::vector<KeySlot>& slots)
	{
		Page page;
		const std::uint8_t id[16] = {1};
		key_page_init(page.data(), id);
		for (std::size_t i = 0; i < slots.size(); ++i)
			*key_page_slot(page.data(), i) = slots[i];
		add(base(kKeyFileName), page, 0);
	}
	static KeySlot slot(std::uint32_t tablespace, std::uint32_t rel_node, SlotState state = SlotState::single)
	{
		KeySlot slot{};
		slot.tablespace = tablespace;
		slot.rel_node = rel_node;
		slot.version = 1;
		slot.state = state;
		slot.form = {CipherId::aes_256_xts, kGeneration};
		return slot;
	}

	test::CommandResult scan(std::vector<std::string> options = {})
	{
		options.insert(options.begin(), {kPgseal, "scan", data_.path()});
		return test::run(options);
	}
	json scan_json(int exit_code, std::vector<std::string> options = {})
	{
		options.push_back("--json");
		const test::CommandResult result = scan(options);
		EXPECT_EQ(result.exit_code, exit_code) << result.output << result.errors;
		return json::parse(result.output, nullptr, false);
	}
	static json relation(const json& document, std::uint32_t rel_node)
	{
		for (const json& entry : document["relations"])
			if (entry["relfilenode"] == rel_node)
				return entry;
		return {};
	}

	test::TemporaryDirectory data_, other_;
	std::string location_;
	PageCipher cipher_;
};

TEST_F(CliScan, counts_every_kind_in_every_fork_and_segment)
{
	add(base("2600"), plain(0), 0);
	add_zero(base("2600"));
	for (std::uint32_t block = 0; block < 3; ++block)
		add(secure("20000"), sealed(block), block);
	add_zero(secure("20000"));
	add(secure("20000.1"), sealed(kSegmentBlocks), kSegmentBlocks);
	add(secure("20000_fsm"), sealed(0, ForkClass::fsm), 0);
	add(secure("20000_init"), sealed(0), 0);
	add(data_.file("global/1260"), plain(0), 0);
	add_key_file({slot(16401, 20000)});
	append(base("pg_filenode.map"), "junk", 4);
	append(base("pg_internal.init"), "junk", 4);

	const json document = scan_json(0);
	EXPECT_EQ(document["as_expected"], true);
	EXPECT_EQ(document["key_records"], 1);
	EXPECT_EQ(document["totals"]["sealed"], 6);
	EXPECT_EQ(document["totals"]["plain"], 2);
	EXPECT_EQ(document["totals"]["zero"], 2);
	EXPECT_EQ(document["totals"]["damaged"], 0);
	const json entry = relation(document, 20000);
	EXPECT_EQ(entry["tablespace"], 16401);
	EXPECT_EQ(entry["database"], 16390);
	EXPECT_EQ(entry["has_key"], true);
	EXPECT_EQ(entry["forks"]["main"]["sealed"], 4);
	EXPECT_EQ(entry["forks"]["main"]["zero"], 1);
	EXPECT_EQ(entry["forks"]["fsm"]["sealed"], 1);
	const std::string text = scan().output;
	EXPECT_NE(text.find("6 sealed, 2 plain, 2 zero, 0 damaged"), std::string::npos) << text;
	EXPECT_EQ(scan({"--quiet"}).output, "");
}

TEST_F(CliScan, a_plain_page_in_a_relation_with_a_key_is_a_problem)
{
	add(base("20000"), sealed(0), 0);
	add(base("20000"), plain(1), 1);
	add_key_file({slot(0, 20000)});
	EXPECT_EQ(scan_json(1)["unexpected_plain"], 1);
	EXPECT_EQ(scan_json(0, {"--plain-ok"})["unexpected_plain"], 0);
}

TEST_F(CliScan, plain_pages_of_a_relation_in_transition_or_decrypted_are_expected)
{
	add(base("20000"), sealed(0), 0);
	add(base("20000"), plain(1), 1);
	add(base("20001"), plain(0), 0);
	KeySlot decrypted = slot(0, 20001, SlotState::single);
	decrypted.form = {CipherId::none, 0};
	add_key_file({slot(0, 20000, SlotState::transition), decrypted});
	scan_json(0);
}

// As seal.relations has it: the same names, from the same kinds of records and pages.
TEST_F(CliScan, every_state_of_a_relation_has_its_name_and_its_pages)
{
	const KeyForm old_key = {CipherId::aes_256_xts, kGeneration - 1}, none = {CipherId::none, 0};
	std::vector<KeySlot> slots;
	std::uint32_t next = 20000;
	// `pages`: s sealed by the form, o by the old one, p plain
	const auto make = [&](SlotState state, KeyForm form, KeyForm old_form, const std::string& pages) {
		KeySlot made = slot(0, next, state);
		made.form = form;
		made.old_form = old_form;
		slots.push_back(made);
		std::uint32_t block = 0;
		for (char kind : pages) {
			const std::uint8_t generation = kind == 'o' ? kGeneration - 1 : kGeneration;
			add(base(std::to_string(next)), kind == 'p' ? plain(block) : sealed(block, ForkClass::main, generation),
			    block);
			++block;
		}
		return next++;
	};
	const KeyForm key = {CipherId::aes_256_xts, kGeneration};
	const std::map<std::uint32_t, std::string> expected = {
		{make(SlotState::announced, key, none, "ppp"), "sealing"},
		{make(SlotState::transition, key, none, "psp"), "sealing"},
		{make(SlotState::transition, key, none, "sss"), "sealing"},
		{make(SlotState::finished, key, none, "sss"), "sealed"},
		{make(SlotState::announced, key, old_key, "oo"), "rotating"},
		{make(SlotState::transition, key, old_key, "os"), "rotating"},
		{make(SlotState::finished, key, old_key, "sso"), "sealed"},
		{make(SlotState::announced, none, old_key, "oo"), "unsealing"},
		{make(SlotState::transition, none, old_key, "op"), "unsealing"},
		{make(SlotState::finished, none, old_key, "pp"), "plain"},
		{make(SlotState::finished, none, old_key, "po"), "partly sealed"},
		{make(SlotState::single, none, none, "pp"), "plain"},
		{make(SlotState::single, key, none, ""), "sealed"},
	};
	add_key_file(slots);
	const json document = scan_json(0);
	EXPECT_EQ(document["problem_count"], 0);
	EXPECT_EQ(document["totals"]["sealed"], 18);
	EXPECT_EQ(document["totals"]["plain"], 11);
	EXPECT_EQ(document["key_records"], 12) << "all but the one that says plain and keeps no key";
	for (const auto& [rel_node, state] : expected) {
		if (rel_node + 1 == next) {
			EXPECT_TRUE(relation(document, rel_node).is_null()) << "it has no file";
			continue;
		}
		EXPECT_EQ(relation(document, rel_node)["state"], state) << rel_node;
	}
	const std::string text = scan().output;
	EXPECT_NE(text.find("unsealing"), std::string::npos) << text;
	EXPECT_EQ(text.find(" 20011 "), std::string::npos) << "a decrypted relation is in the totals only\n" << text;
	const std::string summary = scan({"--summary"}).output;
	EXPECT_EQ(summary.find("20001"), std::string::npos) << summary;
	EXPECT_NE(summary.find("pg_default"), std::string::npos) << summary;
}

TEST_F(CliScan, pages_that_their_records_state_forbids_are_problems)
{
	const KeyForm old_key = {CipherId::aes_256_xts, kGeneration - 1};
	KeySlot finished = slot(0, 20000, SlotState::finished), settled = slot(0, 20001), unsealed = slot(0, 20002);
	finished.old_form = {CipherId::none, 0};
	settled.old_form = old_key; // of no account any more
	unsealed.form = {CipherId::none, 0};
	add(base("20000"), sealed(0), 0);
	add(base("20000"), plain(1), 1); // what a forger would put there
	add(base("20001"), sealed(0, ForkClass::main, kGeneration - 1), 0);
	add(base("20002"), sealed(0), 0);
	add_key_file({finished, settled, unsealed});
	const json document = scan_json(1);
	EXPECT_EQ(document["unexpected_plain"], 1);
	EXPECT_EQ(document["totals"]["keyless"], 2);
	EXPECT_EQ(relation(document, 20000)["state"], "partly plain");
	EXPECT_EQ(relation(document, 20002)["state"], "key missing");
}

TEST_F(CliScan, a_named_tablespace_has_no_plain_page_in_any_state)
{
	add(base("20000"), sealed(0), 0);
	add(base("20000"), plain(1), 1);
	add(base("20001"), plain(0), 0);
	KeySlot decrypted = slot(0, 20001);
	decrypted.form = {CipherId::none, 0};
	add_key_file({slot(0, 20000, SlotState::transition), decrypted});
	scan_json(0);
	EXPECT_EQ(scan_json(1, {"--tablespace", "pg_default"})["unexpected_plain"], 2);
	EXPECT_EQ(scan_json(0, {"--tablespace", "pg_default", "--plain-ok"})["unexpected_plain"], 0);
}

TEST_F(CliScan, a_torn_first_write_is_told_from_other_damage)
{
	Page torn = sealed(0);
	test::put_u16(torn.data(), kPageChecksumOffset, page_checksum(torn.data(), 0));
	std::memset(torn.data() + 5 * kSectorSize, 0, kSectorSize);
	append(base("20000"), torn.data(), torn.size());
	add_key_file({slot(0, 20000)});
	const std::string problem = scan_json(1)["problems"][0]["problem"];
	EXPECT_NE(problem.find("torn"), std::string::npos) << problem;
}

TEST_F(CliScan, a_key_file_of_any_length_is_read)
{
	const std::uint8_t id[16] = {1};
	constexpr std::uint32_t kPages = 300; // more than one read
	for (std::uint32_t block = 0; block < kPages; ++block) {
		Page page;
		key_page_init(page.data(), id);
		for (std::uint32_t i = 0; i < kSlotsPerPage; ++i)
			*key_page_slot(page.data(), i) = slot(0, 30000 + block * kSlotsPerPage + i);
		add(base(kKeyFileName), page, block);
	}
	add(base("39299"), sealed(0), 0);
	const json document = scan_json(0);
	EXPECT_EQ(document["key_records"], kPages * kSlotsPerPage);
	append(base(kKeyFileName), "half", 4);
	EXPECT_EQ(scan_json(1)["problems"][0]["problem"], "key file: short page");
	scan_json(0, {"--online"}); // it is just being extended
}

TEST_F(CliScan, a_named_tablespace_must_be_wholly_sealed)
{
	add(base("2600"), plain(0), 0);
	add(secure("20000"), sealed(0), 0);
	add(secure("20001"), plain(0), 0);
	add_key_file({slot(16401, 20000)});
	scan_json(0);
	for (const std::string& name : {std::string("16401"), std::string("secure"), location_}) {
		const json document = scan_json(1, {"--tablespace", name});
		EXPECT_EQ(document["unexpected_plain"], 1) << name;
		EXPECT_EQ(document["relations"].size(), 2u) << name;
	}
	EXPECT_EQ(scan_json(1, {"--tablespace", "pg_default"})["unexpected_plain"], 1);
	EXPECT_EQ(scan_json(1, {"--tablespace", "pg_default", "--tablespace", "16401"})["unexpected_plain"], 2);
	const test::CommandResult unknown = scan({"--tablespace", "elsewhere"});
	EXPECT_EQ(unknown.exit_code, 2);
	EXPECT_NE(unknown.errors.find("16401 at " + location_), std::string::npos) << unknown.errors;
}

TEST_F(CliScan, damage_is_found_and_placed)
{
	for (std::uint32_t block = 0; block < 4; ++block)
		add(base("20000"), sealed(block), block);
	add_key_file({slot(0, 20000)});
	scan_json(0);
	{
		std::fstream file(base("20000"), std::ios::in | std::ios::out | std::ios::binary);
		file.seekp(2 * 8192 + 4000); // a flipped bit in block 2's ciphertext
		file.put('\x5a');
		file.seekp(3 * 8192 + 14); // pd_upper 0 on a page with content
		file.write("\0\0", 2);
	}
	append(base("20000"), "torn", 4);
	const json document = scan_json(1);
	EXPECT_EQ(document["totals"]["damaged"], 3);
	EXPECT_EQ(document["totals"]["sealed"], 2);
	ASSERT_EQ(document["problems"].size(), 3u);
	EXPECT_EQ(document["problems"][0]["block"], 2);
	EXPECT_EQ(document["problems"][0]["problem"], "wrong checksum");
	EXPECT_EQ(document["problems"][1]["problem"], "impossible header");
	EXPECT_EQ(document["problems"][2]["problem"], "short page: 4 bytes");
}

TEST_F(CliScan, a_page_in_the_place_of_another_is_damaged)
{
	add(base("20000"), sealed(1), 1);
	add(base("20000"), sealed(0), 0);
	add_key_file({slot(0, 20000)});
	EXPECT_EQ(scan_json(1)["totals"]["damaged"], 2);
}

TEST_F(CliScan, without_data_checksums_only_headers_are_judged)
{
	add(base("20000"), sealed(1), 7);
	Page impossible = plain(1);
	test::put_u16(impossible.data(), kPageFlagsOffset, 0x0010);
	add(base("20000"), impossible, 1);
	add_key_file({slot(0, 20000)});
	write_control(false, 1);
	const json document = scan_json(1);
	EXPECT_EQ(document["totals"]["sealed"], 1);
	EXPECT_EQ(document["totals"]["damaged"], 1);
	EXPECT_EQ(document["problems"][0]["problem"], "impossible flags");
}

TEST_F(CliScan, sealed_pages_without_their_key_are_a_problem)
{
	add(base("20000"), sealed(0), 0);
	add(base("20001"), sealed(0, ForkClass::main, 78), 0);
	add(base("20002"), sealed(0), 0);
	KeySlot dropped = slot(0, 20002);
	dropped.dropped_lsn = 5;
	add_key_file({slot(0, 20001), dropped});
	const json document = scan_json(1);
	EXPECT_EQ(document["totals"]["keyless"], 3);
	ASSERT_EQ(document["problems"].size(), 3u);
	EXPECT_NE(document["problems"][1]["problem"].get<std::string>().find("generation"), std::string::npos);
}

TEST_F(CliScan, temporary_relations_need_no_stored_key)
{
	add(base("t3_20005"), sealed(0), 0);
	const json document = scan_json(0);
	EXPECT_EQ(relation(document, 20005)["temporary"], true);
}

TEST_F(CliScan, a_damaged_key_file_is_a_problem)
{
	add(base("20000"), sealed(0), 0);
	add_key_file({slot(0, 20000)});
	{
		std::fstream file(base(kKeyFileName), std::ios::in | std::ios::out | std::ios::binary);
		file.seekp(300);
		file.put('\x7f');
	}
	const json document = scan_json(1);
	EXPECT_EQ(document["problems"][0]["problem"], "key file: wrong checksum");
}

TEST_F(CliScan, refuses_a_running_server_unless_told)
{
	add(base("2600"), plain(0), 0);
	data_.write("postmaster.pid", std::to_string(getpid()) + "\n");
	const test::CommandResult refused = scan();
	EXPECT_EQ(refused.exit_code, 2);
	EXPECT_NE(refused.errors.find("--online"), std::string::npos);
	EXPECT_EQ(scan_json(0, {"--online"})["online"], true);
	EXPECT_NE(scan({"--online"}).output.find("snapshot"), std::string::npos);
	data_.write("postmaster.pid", "2147483000\n"); // left behind by a crash
	scan_json(0);
}

TEST_F(CliScan, says_when_the_last_shutdown_was_not_clean)
{
	write_control(true, 6);
	EXPECT_NE(scan().output.find("did not shut down cleanly"), std::string::npos);
}

TEST_F(CliScan, what_is_no_data_directory_is_a_usage_error)
{
	EXPECT_EQ(test::run({kPgseal, "scan", "/nowhere"}).exit_code, 2);
	EXPECT_EQ(test::run({kPgseal, "scan", other_.path()}).exit_code, 2);
	EXPECT_EQ(test::run({kPgseal, "scan"}).exit_code, 2);
	std::string broken(8192, '\0');
	set_u32(broken, 8, 1300);
	data_.write("global/pg_control", broken);
	const test::CommandResult result = scan();
	EXPECT_EQ(result.exit_code, 2);
	EXPECT_NE(result.errors.find("wrong checksum"), std::string::npos) << result.errors;
}

} // namespace
} // namespace seal
