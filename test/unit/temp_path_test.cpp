// Which paths are sealed, and that all ways to write one path give the same name.
#include "seal/temp_path.hpp"

#include <gtest/gtest.h>

namespace seal {

TEST(temp_path, the_kinds_are_told_by_the_path)
{
	const struct {
		const char* path;
		TempPathKind kind;
	} cases[] = {
		{"base/pgsql_tmp/pgsql_tmp4711.0", TempPathKind::temporary},
		{"base/pgsql_tmp/pgsql_tmp4711.0.sharedfileset/0.0", TempPathKind::temporary},
		{"base/pgsql_tmp/pgsql_tmp4711.0.fileset/16394-735.changes.0", TempPathKind::temporary},
		{"pg_tblspc/16385/PG_15_202209061/pgsql_tmp/pgsql_tmp1.2", TempPathKind::temporary},
		{"pg_replslot/sub/xid-735-lsn-0-5000000.spill", TempPathKind::spill},
		{"pg_notify/0000", TempPathKind::notify},
		{"base/5/16384", TempPathKind::other},
		{"base/pgsql_tmp", TempPathKind::other},
		{"base/pgsql_tmp/", TempPathKind::other},
		{"base/pgsql_tmpx/1", TempPathKind::other},
		{"base/5/pgsql_tmp/1", TempPathKind::other},
		{"pg_tblspc/16385/PG_15_202209061/5/16384", TempPathKind::other},
		{"pg_tblspc/16385", TempPathKind::other},
		{"pg_replslot/sub/state", TempPathKind::other},
		{"pg_replslot/xid-735-lsn-0-5000000.spill", TempPathKind::other},
		{"pg_notify/", TempPathKind::other},
		{"pg_wal/000000010000000000000001", TempPathKind::other},
		{"pg_logical/mappings/map-1", TempPathKind::other},
		{"/elsewhere/base/pgsql_tmp/1", TempPathKind::other},
		{"", TempPathKind::other},
	};
	for (const auto& one : cases)
		EXPECT_EQ(one.kind, classify_temp_path(one.path, "/data").kind) << one.path;
}

TEST(temp_path, one_file_has_one_name)
{
	const std::string_view name = "base/pgsql_tmp/pgsql_tmp1.2";
	EXPECT_EQ(name, classify_temp_path(name, "/var/data").relative);
	EXPECT_EQ(name, classify_temp_path("./base/pgsql_tmp/pgsql_tmp1.2", "/var/data").relative);
	EXPECT_EQ(name, classify_temp_path("/var/data/base/pgsql_tmp/pgsql_tmp1.2", "/var/data").relative);
	EXPECT_EQ(TempPathKind::other, classify_temp_path("/var/database/pgsql_tmp/pgsql_tmp1.2", "/var/data").kind);
	EXPECT_EQ(name, classify_temp_path(name, "").relative);
}

} // namespace seal
