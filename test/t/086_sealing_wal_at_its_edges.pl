# Sealed WAL where it is easily missed: what a walsender writes itself, a sealing that a crash cut short, keys that expire, recovery that reads
# far ahead.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Wal;
use Test::More;
use Time::HiRes qw(sleep);

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
$node->init_seal(allows_streaming => 'logical', has_archiving => 1, conf => "restart_after_crash = on\nwal_keep_size = 1GB\npg_seal.wal_receivers = 'friend'");
$node->start;
$node->set_up_keys($token);
$node->safe_psql('postgres', 'CREATE TABLE t (x text); CREATE ROLE stranger LOGIN REPLICATION SUPERUSER');

# --- a crash between the key and its first segment ---
my ($status) = $node->psql('postgres',
	q{SET pg_seal.debug_crash_point = 'registry.after_rename:2'; SELECT seal.enable_wal_encryption('default')});
isnt($status, 0, 'the server crashes in the middle of enabling');
my $completed;
for (1 .. 300)
{
	$completed = slurp_file($node->logfile) =~ /completed the sealing of WAL/;
	last if $completed;
	sleep 0.1;
}
ok($completed, 'the sealing is completed after the crash');
$node->safe_psql('postgres', 'INSERT INTO t SELECT g FROM generate_series(1, 1000) g');
$node->crash;
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->start_fails_like(qr/invalid info bits/, 'a server without the library does not start on a checkpoint before sealed WAL');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_seal'");
$node->start;
is($node->safe_psql('postgres', 'SELECT count(*) FROM t'), 1000, 'with the library nothing is lost');

# --- what a walsender writes ---
my $first = $node->safe_psql('postgres', 'SELECT pg_walfile_name(pg_switch_wal() + 1)');
$node->command_ok([ 'pg_basebackup', '-D', $node->basedir . '/backup', '-h', $node->host, '-p', $node->port, '-X', 'none', '-c', 'fast', '--no-sync' ],
	'a base backup');
$node->safe_psql('postgres', 'INSERT INTO t SELECT g FROM generate_series(1, 1000) g');
my $count = count_wal_marks(grep { /(\w{24})$/ && $1 ge $first } wal_segments($node->data_dir . '/pg_wal'));
ok($count->{sealed} > 0, 'WAL is sealed while a base backup is taken');
is($count->{plain}, 0, 'the walsender of a base backup writes no WAL in clear');
my $crashes = () = slurp_file($node->logfile) =~ /terminated by signal/g;
my $replication = 'user=stranger replication=database ' . $node->connstr('postgres');
is($node->safe_psql('postgres', 'CREATE TABLE s AS SELECT 1 AS x; SELECT count(*) FROM s', connstr => $replication), 1,
	'SQL on a replication connection commits, whoever may receive WAL');
is($node->safe_psql('postgres', 'SELECT count(*) FROM s'), 1, 'and is there');
is(scalar(() = slurp_file($node->logfile) =~ /terminated by signal/g), $crashes, 'no process of the server crashed');
$node->command_fails_like([ 'pg_receivewal', '-D', $node->basedir, '-h', $node->host, '-p', $node->port, '-U', 'stranger', '--no-loop' ],
	qr/may not receive sealed WAL in clear/, 'the stranger receives no WAL');

# --- recovery that is set to read far ahead: an old backup, and a generation that its registry does not know ---
$node->append_conf('postgresql.conf', "pg_seal.wal_receivers = '*'");
$node->reload;
$node->backup('old', backup_options => [ '-X', 'none' ]);
$node->safe_psql('postgres', $_) for 'SELECT seal.rotate_wal_key()', 'INSERT INTO t VALUES (1)', 'SELECT seal.rotate_wal_key()',
  'INSERT INTO t SELECT g FROM generate_series(1, 100) g', 'SELECT pg_switch_wal()';
my $restored = SealTest->new('restored');
$restored->init_from_backup($node, 'old', has_restoring => 1);
$restored->append_conf('postgresql.conf', "wal_decode_buffer_size = 64MB\nmaintenance_io_concurrency = 1000\narchive_mode = off");
$restored->start;
like(slurp_file($restored->logfile), qr/wal_decode_buffer_size is limited/, 'the read-ahead of recovery has a limit');
$restored->poll_query_until('postgres', 'SELECT count(*) = 2101 FROM t') or die 'the standby does not catch up';
ok(1, 'recovery reads no generation before it replayed its key');
$restored->stop;

# --- keys expire ---
$node->append_conf('postgresql.conf', "wal_keep_size = 0\npg_seal.wal_key_retention = 1s");
$node->reload;
for (1 .. 3)
{
	sleep 1.2;
	$node->safe_psql('postgres', $_) for 'SELECT seal.rotate_wal_key()', 'CHECKPOINT';
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM seal.wal_keys WHERE generation = 1'), 0, 'an expired key is dropped');
is($node->safe_psql('postgres', q{SELECT count(*) FROM seal.wal_keys WHERE state = 'active'}), 1, 'the active one is there');
$node->stop;
done_testing();
