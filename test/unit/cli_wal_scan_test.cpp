// What `pgseal scan` and `pgseal doctor` say about WAL on disk and about where a token lies.
#include "doctor.hpp"
#include "sealed_cluster.hpp"
#include "wal_scan.hpp"

#include <gtest/gtest.h>

#include <filesystem>

namespace seal::cli {
namespace {

using test::SealedCluster;

class CliWalScan : public testing::Test {
protected:
	CliWalScan() : cluster_(2) {}

	void put(std::uint32_t number, const std::string& bytes, const std::string& suffix = "")
	{
		cluster_.directory().write("pg_wal/" + SealedCluster::segment_name(number) + suffix, bytes);
	}
	WalDirectoryScan scan(const WalKeysDef& keys)
	{
		Result<WalDirectoryScan> result = scan_wal_directory(cluster_.path() + "/pg_wal", keys, false);
		EXPECT_TRUE(result) << (result ? "" : result.error().message);
		return *result;
	}
	// Every finding of one area, "level: text" a line.
	std::string doctor(const std::string& area, std::vector<std::string> archives = {})
	{
		DoctorOptions options;
		options.data_directory = cluster_.path();
		options.archives = std::move(archives);
		Doctor doctor(options);
		std::string lines;
		for (const DoctorFinding& finding : doctor.examine())
			if (finding.area == area)
				lines += std::string(finding.level == Level::ok        ? "ok: "
				                     : finding.level == Level::warning ? "warning: "
				                                                       : "problem: ") +
				         finding.text + "\n";
		return lines;
	}

	SealedCluster cluster_;
};

TEST_F(CliWalScan, CountsPagesByGeneration)
{
	put(1, SealedCluster::plain_segment(1, 10));
	put(2, cluster_.sealed(SealedCluster::plain_segment(2, 30), 1));
	put(3, cluster_.sealed(SealedCluster::plain_segment(3, 20), 2), ".partial");
	put(4, cluster_.sealed(SealedCluster::plain_segment(2, 30), 1)); // recycled: still the earlier segment
	put(5, SealedCluster::plain_segment(1, 10));                     // so is this one, in clear
	put(6, "packed", ".lz4");
	cluster_.directory().write("pg_wal/00000002.history", "1\t0/1000000\tno recovery target specified\n");
	cluster_.directory().write("pg_wal/" + SealedCluster::segment_name(2) + ".00000028.backup", "START WAL LOCATION\n");
	const WalDirectoryScan found = scan(cluster_.registry().wal_keys());
	EXPECT_EQ(found.segments, 5u);
	EXPECT_EQ(found.segments_in_clear, 1u);
	EXPECT_EQ(found.not_examined, 1u);
	EXPECT_EQ(found.plain, 10u);
	EXPECT_EQ(found.sealed, (std::map<std::uint32_t, std::uint64_t>{{1, 30}, {2, 20}}));
	EXPECT_EQ(found.left_sealed, 30u);
	EXPECT_EQ(found.left_plain, 10u);
	EXPECT_EQ(found.zero, 5 * 128u - 10 - 30 - 20 - 30 - 10);
	EXPECT_TRUE(found.unknown.empty());
}

TEST_F(CliWalScan, NamesAGenerationThatNobodyKnows)
{
	put(2, cluster_.sealed(SealedCluster::plain_segment(2, 30), 2));
	WalKeysDef keys = cluster_.registry().wal_keys();
	keys.keys.pop_back();
	EXPECT_EQ(scan(keys).unknown, (std::map<std::string, std::uint32_t>{{SealedCluster::segment_name(2), 2}}));
	// Marks tell 1024 generations apart: the newest one that it can be is meant.
	keys.keys.back().generation = 1026;
	EXPECT_TRUE(scan(keys).unknown.empty());
	EXPECT_EQ(scan(keys).sealed, (std::map<std::uint32_t, std::uint64_t>{{1026, 30}}));
}

TEST_F(CliWalScan, WhatIsNoWalIsNotExamined)
{
	put(2, cluster_.sealed(SealedCluster::plain_segment(2, 30), 1));
	put(3, std::string(20000, 'x'));
	put(4, "short");
	put(5, std::string(8192, '\0') + std::string(8192, 'x'));
	put(6, std::string(SealedCluster::kSegment, '\0')); // made in advance
	const WalDirectoryScan found = scan(cluster_.registry().wal_keys());
	EXPECT_EQ(found.segments, 2u);
	EXPECT_EQ(found.not_examined, 3u);
	EXPECT_EQ(found.segments_in_clear, 0u);
	EXPECT_EQ(found.zero, 128u - 30 + 128);
}

TEST_F(CliWalScan, AnArchivesFoldersAreLookedIntoAndAnEmptyOneIsTold)
{
	test::TemporaryDirectory archive;
	const auto says = [&] { return doctor("WAL", {archive.path()}); };
	EXPECT_NE(says().find("warning: no WAL segment was found in \"" + archive.path() + "\""), std::string::npos)
		<< says();
	std::filesystem::create_directory(archive.file("0000000100000000"));
	std::filesystem::create_directory(archive.file("elsewhere"));
	archive.write("0000000100000000/" + SealedCluster::segment_name(1), SealedCluster::plain_segment(1));
	archive.write("elsewhere/" + SealedCluster::segment_name(2), SealedCluster::plain_segment(2));
	EXPECT_NE(says().find("warning: 1 of 1 segments in \"" + archive.path() + "\" hold WAL in clear"),
	          std::string::npos)
		<< says();
}

TEST_F(CliWalScan, AnEmptySegmentIsNotInClear)
{
	std::string switched = SealedCluster::plain_segment(2, 1);
	std::fill(switched.begin() + kWalLongHeader, switched.begin() + kWalPageSize, '\0');
	put(2, switched);
	const WalDirectoryScan found = scan({});
	EXPECT_EQ(found.empty, 1u);
	EXPECT_EQ(found.segments_in_clear, 0u);
}

TEST_F(CliWalScan, DoctorWarnsOfWalInClear)
{
	put(2, cluster_.sealed(SealedCluster::plain_segment(2, 30), 1));
	EXPECT_EQ(doctor("WAL"), "ok: WAL is sealed with generation 2 of its key\nok: no segment in \"" + cluster_.path() +
	                             "/pg_wal\" holds WAL in clear\n");
	test::TemporaryDirectory archive;
	archive.write(SealedCluster::segment_name(1), SealedCluster::plain_segment(1));
	EXPECT_NE(doctor("WAL", {archive.path()})
	              .find("warning: 1 of 1 segments in \"" + archive.path() + "\" hold WAL in clear"),
	          std::string::npos);
	put(7, SealedCluster::plain_segment(1)); // recycled
	EXPECT_NE(doctor("WAL").find("kept for reuse hold 100 pages of older WAL in clear"), std::string::npos)
		<< doctor("WAL");
	cluster_.store(0);
	EXPECT_NE(doctor("WAL").find("warning: WAL is written in clear"), std::string::npos);
	SealedCluster other(5);
	put(3, other.sealed(SealedCluster::plain_segment(3), 5));
	EXPECT_NE(doctor("WAL").find("problem: segment \"" + SealedCluster::segment_name(3) + "\""), std::string::npos);
}

TEST_F(CliWalScan, DoctorFindsATokenInsideTheDataDirectory)
{
	EXPECT_EQ(doctor("provider"), "");
	const std::string conf = cluster_.directory().write("softhsm2.conf", "directories.tokendir = " + cluster_.path() +
	                                                                         "/pg_seal/../tokens\n");
	std::filesystem::create_directory(cluster_.path() + "/tokens");
	const std::string pin = cluster_.directory().write("pin", "1234");
	cluster_.put_provider("{\"token\":\"t\",\"pin_file\":\"" + pin + "\",\"environment\":{\"SOFTHSM2_CONF\":\"" + conf +
	                      "\"}}");
	const std::string found = doctor("provider");
	EXPECT_NE(found.find("problem: the token of provider 'hsm' lies in the data directory"), std::string::npos)
		<< found;
	EXPECT_NE(found.find("problem: the PIN file of provider 'hsm' lies in the data directory"), std::string::npos)
		<< found;
}

} // namespace
} // namespace seal::cli
