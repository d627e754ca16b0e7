# The stock tools work on sealed files without a key: pg_checksums (check, disable, enable), pg_basebackup, pg_verifybackup. A
# standby made with them follows new sealed relations, is promoted and goes on; point-in-time recovery brings back a dropped
# sealed table.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use Test::More;

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
$node->init_seal(checksums => 1, allows_streaming => 1, has_archiving => 1);
$node->start;
$node->set_up_keys($token);
$node->make_tablespace('secure', sealed => 1);
$node->safe_psql('postgres', q{
	CREATE TABLE accounts (id int PRIMARY KEY USING INDEX TABLESPACE secure, owner text) TABLESPACE secure;
	INSERT INTO accounts SELECT g, 'owner-' || g FROM generate_series(1, 5000) g;
	CREATE UNLOGGED TABLE scratch (x int) TABLESPACE secure;
	INSERT INTO scratch SELECT generate_series(1, 1000);
});
my $sum = q{SELECT count(*), sum(id), md5(string_agg(owner, ',' ORDER BY id)) FROM accounts};

# --- base backup, with the server running ---
my $standby = SealTest->new('standby');
$standby->init_from_stock_backup($node, standby => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', $sum), $node->safe_psql('postgres', $sum), 'the standby reads what the backup brought');

# --- streaming: new relations, new keyrings ---
$node->safe_psql('postgres', q{
	CREATE TABLE orders (id serial PRIMARY KEY USING INDEX TABLESPACE secure, what text) TABLESPACE secure;
	INSERT INTO orders (what) SELECT 'order-' || g FROM generate_series(1, 3000) g;
	CREATE INDEX ON orders USING gin (to_tsvector('simple', what)) TABLESPACE secure;
	TRUNCATE scratch;
	SELECT seal.create_keyring('second', 'hsm');
});
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', 'SELECT count(*), max(what) FROM orders'), '3000|order-999', 'a sealed table made afterwards follows');
is($standby->safe_psql('postgres', "SELECT seal.is_encrypted('orders')"), 't', 'and is sealed there');
$standby->safe_psql('postgres', 'CHECKPOINT');
is_deeply([ $standby->files_with('order-2999') ], [], 'its text is in no data file of the standby');
is($standby->safe_psql('postgres', "SELECT count(*) FROM seal.keyrings WHERE keyring IN ('default', 'second')"), '2',
	'a keyring made afterwards is known there');
is($node->safe_psql('postgres', "SELECT seal.rotate_kek('default') > 0"), 't', 'the KEK is rotated');
$node->safe_psql('postgres', q{CREATE TABLE rotated TABLESPACE secure AS SELECT 'after the rotation'::text AS x});
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', 'SELECT x FROM rotated'), 'after the rotation', 'the standby follows a rotated KEK');
$standby->restart;
is($standby->safe_psql('postgres', 'SELECT x FROM rotated'), 'after the rotation', 'also after its restart');

# --- point in time, from a backup made before ---
my $pitr = SealTest->new('pitr');
$pitr->init_from_stock_backup($node, archive => 1);
$node->safe_psql('postgres', q{CREATE TABLE mistake TABLESPACE secure AS SELECT generate_series(1, 700) AS x});
my $before = $node->safe_psql('postgres', "SELECT pg_create_restore_point('before the mistake')");
$node->safe_psql('postgres', 'DROP TABLE mistake; DELETE FROM accounts; CHECKPOINT; SELECT pg_switch_wal()');
$node->poll_query_until('postgres', "SELECT last_archived_wal IS NOT NULL AND last_archived_wal >= pg_walfile_name('$before') FROM pg_stat_archiver")
  or die 'the archiver did not keep up';
$pitr->append_conf('postgresql.conf', "recovery_target_name = 'before the mistake'\nrecovery_target_action = 'promote'\narchive_mode = off\n");
$pitr->start;
$pitr->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'recovery did not end';
is($pitr->safe_psql('postgres', 'SELECT count(*), sum(x) FROM mistake'), '700|245350', 'the dropped table is back');
like($pitr->safe_psql('postgres', $sum), qr/^5000\|/, 'the deleted rows are back');
$pitr->safe_psql('postgres', q{INSERT INTO accounts VALUES (0, 'new'); CREATE TABLE fresh TABLESPACE secure AS SELECT 1 AS x});
is($pitr->is_sealed_on_disk('postgres', 'fresh'), 1, 'the recovered server seals new tables');
$pitr->stop;
$pitr->command_ok([ 'pg_checksums', '--check', '-D', $pitr->data_dir ], 'pg_checksums passes on it');

# --- promotion ---
$node->wait_for_catchup($standby);
$node->stop;
$standby->promote;
$standby->safe_psql('postgres', q{
	INSERT INTO orders (what) SELECT 'later-' || g FROM generate_series(1, 100) g;
	CREATE TABLE mine TABLESPACE secure AS SELECT generate_series(1, 10) AS x;
	INSERT INTO scratch VALUES (1);
});
is($standby->safe_psql('postgres', 'SELECT count(*) FROM orders'), '3100', 'the promoted standby writes sealed tables');
is($standby->is_sealed_on_disk('postgres', 'mine'), 1, 'and makes them');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM scratch'), '1', 'an unlogged sealed table starts empty there');
$standby->crash;
$standby->start;
is($standby->safe_psql('postgres', 'SELECT sum(x) FROM mine'), '55', 'it recovers from a crash of its own');
$standby->stop;
$standby->command_ok([ 'pg_checksums', '--check', '-D', $standby->data_dir ], 'pg_checksums passes on the promoted standby');

# --- pg_checksums on the stopped primary: check, disable, enable ---
$node->command_ok([ 'pg_checksums', '--check', '-D', $node->data_dir ], 'pg_checksums --check passes without a key');
$node->command_ok([ 'pg_checksums', '--disable', '-D', $node->data_dir ], 'checksums off');
$node->start;
$node->safe_psql('postgres', q{INSERT INTO accounts SELECT g, 'again-' || g FROM generate_series(1, 2000) g; CHECKPOINT});
$node->stop;
$node->command_ok([ 'pg_checksums', '--enable', '-D', $node->data_dir ], 'checksums on again');
$node->command_ok([ 'pg_checksums', '--check', '-D', $node->data_dir ], 'and right');
$node->start;
is($node->safe_psql('postgres', 'SELECT count(*) FROM accounts'), '2000', 'sealed pages pass verification after pg_checksums --enable');
$node->stop;
done_testing();
