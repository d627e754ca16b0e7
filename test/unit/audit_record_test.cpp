#include "seal/audit.hpp"

#include <gtest/gtest.h>
#include <string>

namespace {

seal::AuditRecord sample()
{
	seal::AuditRecord record;
	record.seq = 42;
	record.at = 1767225600000001; // 2026-01-01T00:00:00.000001Z
	record.event = "keyring.create";
	record.actor = "alice";
	record.role = "dba";
	record.client = "[local]";
	record.application = "psql";
	record.database = "postgres";
	record.object = "a \"quoted\"\nname";
	record.result = "ok";
	record.detail = R"({"kek":"k"})";
	return record;
}

TEST(AuditRecord, RoundTrips)
{
	const std::string line = seal::encode_audit_line(sample());
	const auto back = seal::decode_audit_line(line);
	ASSERT_TRUE(back.ok());
	EXPECT_EQ(back->seq, 42u);
	EXPECT_EQ(back->at, sample().at);
	EXPECT_EQ(back->object, sample().object);
	EXPECT_EQ(back->detail, sample().detail);
	EXPECT_EQ(back->result, "ok");
}

TEST(AuditRecord, IsOneLineWhateverItHolds)
{
	const std::string line = seal::encode_audit_line(sample());
	EXPECT_EQ(line.find('\n'), line.size() - 1);
}

TEST(AuditRecord, MembersComeInTheDocumentedOrder)
{
	const std::string line = seal::encode_audit_line(sample());
	EXPECT_EQ(line.find(R"({"seq":42,"at":"2026-01-01T00:00:00.000001Z","event":"keyring.create","actor":"alice",)"), 0u);
}

TEST(AuditRecord, ForeignBytesAreReplacedNotRefused)
{
	seal::AuditRecord record = sample();
	record.application = "psql \xff\xfe";
	const auto back = seal::decode_audit_line(seal::encode_audit_line(record));
	ASSERT_TRUE(back.ok());
	EXPECT_EQ(back->application.find("psql "), 0u);
}

TEST(AuditRecord, UnknownMembersAreIgnored)
{
	const auto back = seal::decode_audit_line(
		R"({"seq":1,"at":"2026-01-01T00:00:00.000000Z","event":"e","result":"ok","prev":"00","detail":{}})");
	ASSERT_TRUE(back.ok());
	EXPECT_EQ(back->seq, 1u);
}

TEST(AuditRecord, WhatIsNoRecordIsCorrupt)
{
	for (const char* line : {"", "{", "[]", "null", "{}", R"({"seq":-1,"at":"2026-01-01T00:00:00.000000Z","event":"e","result":"ok"})",
	                         R"({"seq":1,"at":"yesterday","event":"e","result":"ok"})",
	                         R"({"seq":1,"at":"2026-02-30T00:00:00.000000Z","event":"e","result":"ok"})",
	                         R"({"seq":1,"at":"2026-01-01T00:00:00.000000Z","result":"ok"})"})
		EXPECT_FALSE(seal::decode_audit_line(line).ok()) << line;
}

TEST(AuditRecord, EveryPrefixOfALineIsRefused)
{
	const std::string line = seal::encode_audit_line(sample());
	for (std::size_t size = 0; size + 1 < line.size(); size++)
		EXPECT_FALSE(seal::decode_audit_line(std::string_view(line).substr(0, size)).ok()) << size;
}

TEST(AuditRecord, DeepNestingIsRefusedNotRecursedInto)
{
	const std::string deep(40000, '[');
	EXPECT_FALSE(seal::decode_audit_line(deep).ok());
	EXPECT_FALSE(seal::json_nesting_at_most(deep, seal::kMaxJsonNesting));
	EXPECT_TRUE(seal::json_nesting_at_most(R"({"a":"[[[[[[[[\"[[[["})", 1));
	EXPECT_EQ(seal::AuditDetail().json("policy", deep).str().find(R"({"policy":"[[[)"), 0u);
}

TEST(AuditRecord, AnOverlongDetailIsLeftOut)
{
	seal::AuditRecord record = sample();
	record.detail = seal::AuditDetail().text("policy", std::string(seal::kMaxAuditLine, 'x')).str();
	const std::string line = seal::encode_audit_line(record);
	EXPECT_LE(line.size(), seal::kMaxAuditLine);
	const auto back = seal::decode_audit_line(line);
	ASSERT_TRUE(back.ok());
	EXPECT_NE(back->detail.find("left_out"), std::string::npos);
}

TEST(AuditTime, RoundTripsFrom1970To9999)
{
	for (const std::int64_t at : {std::int64_t{0}, std::int64_t{1}, std::int64_t{951782400000000} /* 2000-02-29 */,
	                              std::int64_t{253402300799999999}}) {
		std::int64_t back = -1;
		ASSERT_TRUE(seal::audit_time_parse(seal::audit_time_text(at), back));
		EXPECT_EQ(back, at);
	}
	EXPECT_EQ(seal::audit_time_text(253402300799999999), "9999-12-31T23:59:59.999999Z");
}

} // namespace
