// `pgseal exec` and the preload library, with a stand-in for the stock tools: what they read is in clear, what they write is sealed, and no key shows.
#include "sealed_cluster.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <sys/stat.h>

namespace seal {
namespace {

using test::CommandResult;
using test::SealedCluster;

constexpr char kPgseal[] = SEAL_BINARY_DIR "/pgseal";
constexpr char kStandin[] = SEAL_BINARY_DIR "/wal_tool_standin";

std::string slurp(const std::string& path)
{
	std::ifstream file(path, std::ios::binary);
	std::ostringstream text;
	text << file.rdbuf();
	return text.str();
}

class CliExec : public testing::Test {
protected:
	CliExec() : cluster_(3) {}

	std::string tool(const std::string& name)
	{
		const std::string path = tools_.file(name);
		std::filesystem::copy_file(kStandin, path, std::filesystem::copy_options::skip_existing);
		return path;
	}
	CommandResult exec(const std::string& name, std::vector<std::string> words, std::vector<std::string> before = {})
	{
		std::vector<std::string> argv = {kPgseal, "exec"};
		if (before.empty())
			before = {"-D", cluster_.path()};
		argv.insert(argv.end(), before.begin(), before.end());
		argv.push_back("--");
		argv.push_back(tool(name));
		argv.insert(argv.end(), words.begin(), words.end());
		if (name == "pg_rewind") // its target
			argv.insert(argv.end(), {"-D", cluster_.path()});
		return test::run(argv);
	}
	std::string put_sealed(const std::string& folder, std::uint32_t number, std::uint32_t generation)
	{
		return cluster_.directory().write(folder + "/" + SealedCluster::segment_name(number),
		                                  cluster_.sealed(SealedCluster::plain_segment(number), generation));
	}

	SealedCluster cluster_;
	test::TemporaryDirectory tools_, out_;
};

TEST_F(CliExec, ReadsSealedSegmentsOfEveryGeneration)
{
	for (std::uint32_t generation = 1; generation <= 3; ++generation) {
		const std::string path = put_sealed("pg_wal", 10 + generation, generation);
		const std::string plain = SealedCluster::plain_segment(10 + generation);
		ASSERT_NE(slurp(path), plain);
		const CommandResult run = exec("pg_waldump", {"cat", path});
		EXPECT_EQ(run.exit_code, 0) << run.errors;
		EXPECT_TRUE(run.output == plain) << "generation " << generation;
	}
}

TEST_F(CliExec, APlainOrRecycledSegmentComesAsItLies)
{
	const std::string plain = SealedCluster::plain_segment(9);
	const std::string path = cluster_.directory().write("pg_wal/" + SealedCluster::segment_name(9), plain);
	EXPECT_TRUE(exec("pg_waldump", {"cat", path}).output == plain);
	// Named for a later segment, still full of the earlier one.
	const std::string old = cluster_.sealed(plain, 2);
	const std::string recycled = cluster_.directory().write("pg_wal/" + SealedCluster::segment_name(20), old);
	std::string unmarked = old; // only the mark goes: the tool stumbles over the address, as in plain WAL
	for (std::size_t page = 0; page + kWalPageSize <= unmarked.size(); page += kWalPageSize) {
		std::uint8_t* const header = reinterpret_cast<std::uint8_t*>(unmarked.data()) + page;
		wal_set_info(header, static_cast<std::uint16_t>(wal_info(header) & kWalPlainInfo));
	}
	EXPECT_TRUE(exec("pg_waldump", {"cat", recycled}).output == unmarked);
}

TEST_F(CliExec, WritesWhatTheServerWouldWrite)
{
	const std::string plain = SealedCluster::plain_segment(5);
	const std::string from = out_.write("stream", plain);
	for (const char* size : {"1000", "8192", "50000", "131072"}) {
		const std::string to = out_.file(SealedCluster::segment_name(5) + ".partial");
		std::filesystem::remove(to);
		const CommandResult run = exec("pg_receivewal", {"copy", from, to, size});
		EXPECT_EQ(run.exit_code, 0) << run.errors;
		EXPECT_TRUE(slurp(to) == cluster_.sealed(plain, 3)) << size;
	}
}

TEST_F(CliExec, ASegmentThatIsBegunAgainKeepsItsGeneration)
{
	const std::string plain = SealedCluster::plain_segment(6);
	const std::string to = out_.write(SealedCluster::segment_name(6) + ".partial", cluster_.sealed(plain, 1));
	EXPECT_EQ(exec("pg_receivewal", {"copy", out_.write("stream", plain), to, "3000"}).exit_code, 0);
	EXPECT_TRUE(slurp(to) == cluster_.sealed(plain, 1));
}

TEST_F(CliExec, WalThatIsNotSealedIsWrittenInClearOnlyWhenAskedFor)
{
	cluster_.store(0);
	const std::string plain = SealedCluster::plain_segment(5);
	const std::string to = out_.file(SealedCluster::segment_name(5));
	const std::string from = out_.write("stream", plain);
	const CommandResult refused = exec("pg_receivewal", {"copy", from, to, "8192"});
	EXPECT_EQ(refused.exit_code, 2);
	EXPECT_NE(refused.errors.find("is not sealed"), std::string::npos) << refused.errors;
	EXPECT_FALSE(std::filesystem::exists(to));
	const CommandResult run = exec("pg_receivewal", {"copy", from, to, "8192"}, {"-D", cluster_.path(), "--plain-ok"});
	EXPECT_EQ(run.exit_code, 0) << run.errors;
	EXPECT_TRUE(slurp(to) == plain);
}

TEST_F(CliExec, OtherFilesAreLeftAlone)
{
	const std::string text = cluster_.sealed(SealedCluster::plain_segment(8), 1);
	const std::string path = out_.write("notes", text);
	EXPECT_TRUE(exec("pg_waldump", {"cat", path}).output == text);
	EXPECT_EQ(exec("pg_receivewal", {"copy", path, out_.file("copy"), "4000"}).exit_code, 0);
	EXPECT_TRUE(slurp(out_.file("copy")) == text);
}

TEST_F(CliExec, AnUnknownGenerationIsAnErrorNotTheEndOfWal)
{
	const std::string path = put_sealed("pg_wal", 12, 2);
	SealedCluster other(1);
	const CommandResult run = exec("pg_waldump", {"cat", path}, {"-D", other.path()});
	EXPECT_EQ(run.exit_code, 1);
	EXPECT_NE(run.errors.find("is sealed with a WAL key that is not known here (generation 2 "), std::string::npos)
		<< run.errors;
	const CommandResult written =
		exec("pg_receivewal", {"copy", out_.write("stream", SealedCluster::plain_segment(12)), path, "5000"},
	         {"-D", other.path()});
	EXPECT_EQ(written.exit_code, 1) << written.errors;
	EXPECT_TRUE(slurp(path) == cluster_.sealed(SealedCluster::plain_segment(12), 2)) << "nothing was written over it";
}

TEST_F(CliExec, KeysOfAnotherClusterAreRefusedThoughGenerationsAreTheSame)
{
	SealedCluster other(3, SealedCluster::kSystem + 1);
	const std::string path = put_sealed("pg_wal", 12, 2), before = slurp(path);
	const CommandResult read = exec("pg_waldump", {"cat", path}, {"-D", other.path()});
	EXPECT_EQ(read.exit_code, 1);
	EXPECT_NE(read.errors.find("could not read WAL segment \"" + SealedCluster::segment_name(12) +
	                           "\": it is WAL of another cluster"),
	          std::string::npos)
		<< read.errors;
	const std::string stream = out_.write("stream", SealedCluster::plain_segment(12));
	for (const std::string& to : {path, out_.file(SealedCluster::segment_name(12) + ".partial")}) {
		const CommandResult written = exec("pg_receivewal", {"copy", stream, to, "8192"}, {"-D", other.path()});
		EXPECT_EQ(written.exit_code, 1);
		EXPECT_NE(written.errors.find("could not write WAL segment"), std::string::npos) << written.errors;
		EXPECT_NE(written.errors.find("another cluster"), std::string::npos) << written.errors;
	}
	EXPECT_TRUE(slurp(path) == before) << "nothing was written over it";
	// Which keys are meant is never guessed for a tool that writes.
	const CommandResult guessed =
		test::run({kPgseal, "exec", "--", tool("pg_receivewal"), "look"}, {"PGDATA=" + cluster_.path()});
	EXPECT_EQ(guessed.exit_code, 2);
	EXPECT_NE(guessed.errors.find("no data directory is known"), std::string::npos) << guessed.errors;
}

TEST_F(CliExec, RewindCopiesAsItIsAndReadsTheTargetInClear)
{
	const std::string target = put_sealed("pg_wal", 3, 1);
	const std::string plain = SealedCluster::plain_segment(3);
	EXPECT_TRUE(exec("pg_rewind", {"cat", target}).output == plain);
	// The source's file, sealed with whatever key, and the target's copy of it.
	SealedCluster source(1);
	const std::string theirs = source.sealed(SealedCluster::plain_segment(4), 1);
	const std::string from = source.directory().write("pg_wal/" + SealedCluster::segment_name(4), theirs);
	const std::string to = cluster_.path() + "/pg_wal/" + SealedCluster::segment_name(4);
	EXPECT_EQ(exec("pg_rewind", {"copy-raw", from, to}).exit_code, 0);
	EXPECT_TRUE(slurp(to) == theirs);
}

TEST_F(CliExec, RewindLeavesTheNodesAuditLogAlone)
{
	std::filesystem::create_directory(cluster_.path() + "/pg_seal/audit");
	const std::string mine = cluster_.directory().write("pg_seal/audit/000000000001", "what happened here");
	const std::string theirs = out_.write("theirs", "what happened there");
	EXPECT_EQ(exec("pg_rewind", {"copy-raw", theirs, mine}).exit_code, 0);
	EXPECT_EQ(exec("pg_rewind", {"cut", mine}).exit_code, 0);
	EXPECT_EQ(exec("pg_rewind", {"remove", mine}).exit_code, 0);
	EXPECT_EQ(exec("pg_rewind", {"copy-raw", theirs, cluster_.path() + "/pg_seal/audit/000000000002"}).exit_code, 0);
	EXPECT_EQ(slurp(mine), "what happened here");
	EXPECT_FALSE(std::filesystem::exists(cluster_.path() + "/pg_seal/audit/000000000002"));
	// Also when the keys come from elsewhere: the target is what pg_rewind itself is given.
	const SealedCluster other(1);
	EXPECT_EQ(exec("pg_rewind", {"copy-raw", theirs, mine}, {"-D", other.path()}).exit_code, 0);
	EXPECT_EQ(slurp(mine), "what happened here");
	// Only this directory is so.
	const std::string registry = cluster_.directory().write("pg_seal/keyfiles", "old");
	EXPECT_EQ(exec("pg_rewind", {"copy-raw", theirs, registry}).exit_code, 0);
	EXPECT_EQ(slurp(registry), "what happened there");
	EXPECT_EQ(exec("pg_rewind", {"remove", registry}).exit_code, 0);
	EXPECT_FALSE(std::filesystem::exists(registry));
}

TEST_F(CliExec, NoKeyShowsInTheToolAndItsChildrenHaveNothing)
{
	const CommandResult run = exec("pg_waldump", {"look"});
	EXPECT_EQ(run.output, "LD_PRELOAD=\nPG_SEAL_PARCEL_FD=\nPG_SEAL_PROBE_FD=\ndumpable=0\nmemory files=0\n");
	EXPECT_NE(exec("pg_verifybackup", {"look"}).output.find("memory files=1\n"), std::string::npos)
		<< "that is how one would show";
	// pg_verifybackup runs pg_waldump through a shell: that one reads.
	const std::string path = put_sealed("pg_wal", 15, 2);
	const CommandResult through =
		exec("pg_verifybackup", {"run", "exec '" + tool("pg_waldump") + "' cat '" + path + "'"});
	EXPECT_EQ(through.exit_code, 0) << through.errors;
	EXPECT_TRUE(through.output == SealedCluster::plain_segment(15));
	// Another program among its children does not, and pg_rewind's children get nothing at all.
	EXPECT_TRUE(exec("pg_verifybackup", {"run", "'" + std::string(kStandin) + "' cat '" + path + "'"}).output ==
	            slurp(path));
	const CommandResult other = exec("pg_upgrade_stand", {"look"});
	EXPECT_EQ(other.exit_code, 2) << "not on the list";
	EXPECT_EQ(exec("pg_verifybackup", {"run", "'" + std::string(kStandin) + "' look"})
	              .output.rfind("LD_PRELOAD=\nPG_SEAL_PARCEL_FD=\n", 0),
	          0u);
	EXPECT_NE(exec("pg_verifybackup", {"run", "'" + std::string(kStandin) + "' look"}).output.find("memory files=0\n"),
	          std::string::npos);
	const CommandResult child = exec("pg_rewind", {"run", "'" + tool("pg_waldump") + "' look"});
	EXPECT_NE(child.output.find("LD_PRELOAD=\nPG_SEAL_PARCEL_FD=\n"), std::string::npos) << child.output;
	EXPECT_NE(child.output.find("memory files=0\n"), std::string::npos) << child.output;
}

TEST_F(CliExec, AnotherPreloadedLibraryStays)
{
	const CommandResult run =
		test::run({kPgseal, "exec", "-D", cluster_.path(), "--", tool("pg_waldump"), "look"}, {"LD_PRELOAD=libm.so.6"});
	EXPECT_EQ(run.output.rfind("LD_PRELOAD=libm.so.6\n", 0), 0u) << run.output;
}

TEST_F(CliExec, StatusAndSignalsAreTheTools)
{
	EXPECT_EQ(exec("pg_waldump", {"fail", "42"}).exit_code, 42);
	EXPECT_EQ(exec("pg_waldump", {"die"}).exit_code, 128 + 15);
}

TEST_F(CliExec, RefusesWhatItCannotServe)
{
	const auto refused = [&](const CommandResult& run, const std::string& why) {
		EXPECT_EQ(run.exit_code, 2) << run.output;
		EXPECT_NE(run.errors.find(why), std::string::npos) << run.errors;
	};
	refused(exec("pg_dump", {}), "\"pg_dump\" is not a program that can be run with WAL keys");
	refused(exec("pg_receivewal", {"-Z", "5"}), "--compress hides the WAL's pages");
	refused(exec("pg_receivewal", {"--compr=lz4"}), "--compress hides the WAL's pages");
	refused(exec("pg_basebackup", {"-Ft"}), "--format=tar with streamed WAL hides");
	refused(exec("pg_basebackup", {"--format", "tar", "-X", "stream"}), "--format=tar with streamed WAL hides");
	EXPECT_EQ(exec("pg_basebackup", {"fail", "0", "-Ft", "-Xfetch"}).exit_code, 2)
		<< "the stand-in's own, for words it does not know";
	EXPECT_EQ(exec("pg_receivewal", {"--compress=none", "look"}).errors.find("hides"), std::string::npos);

	const std::string script = tools_.write("pg_resetwal", "#!/bin/sh\necho ran\n", 0755);
	refused(test::run({kPgseal, "exec", "-D", cluster_.path(), "--", script}), "is a script");
	const std::string privileged = tool("pg_waldump");
	ASSERT_EQ(chmod(privileged.c_str(), 04755), 0);
	refused(exec("pg_waldump", {"look"}), "is a program with privileges of its own");
	ASSERT_EQ(chmod(privileged.c_str(), 0755), 0);

	refused(test::run({kPgseal, "exec", "-D", cluster_.path(), "--", tool("pg_rewind"), "look"}),
	        "is not a data directory to rewind");
	refused(exec("pg_waldump", {"look"}, {"-D", out_.path()}), "is not a data directory");
	refused(exec("pg_waldump", {"look"}, {"--from", "host=/nowhere"}), "--from needs --overrides");
	std::filesystem::remove(cluster_.path() + "/pg_seal/registry");
	refused(exec("pg_waldump", {"look"}), "has no keys: pg_seal has not been set up in it");
}

TEST_F(CliExec, TheProviderMustOpenTheKeys)
{
	std::filesystem::rename(cluster_.hsm().directory().path() + "/tokens", cluster_.hsm().directory().path() + "/away");
	const CommandResult run = exec("pg_waldump", {"look"});
	EXPECT_EQ(run.exit_code, 2);
	EXPECT_NE(run.errors.find("keyring 'default', provider 'hsm'"), std::string::npos) << run.errors;
	EXPECT_EQ(run.output, "") << "the tool did not run";
}

} // namespace
} // namespace seal
