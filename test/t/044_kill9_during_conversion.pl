# Rounds of kill -9 of every process of the server, at random moments of a conversion that goes back and forth over pg_default and a tablespace, under the
# benchmark and a storm of DDL, some of them during recovery. After each recovery every row is there and every page readable; at the
# end, sealed once more, no plain page is left. SEAL_KILL_ROUNDS sets the number of rounds, SEAL_KILL_SEED repeats a run.
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Convert;
use SealTest::KeyFile;
use SealTest::Ledger;
use SealTest::Load;
use Test::More;
use Time::HiRes qw(usleep);

my $rounds = $ENV{SEAL_KILL_ROUNDS} || 3;
my $seed = $ENV{SEAL_KILL_SEED} || time;
srand $seed;
note "rounds $rounds, SEAL_KILL_SEED=$seed";

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
$node->init_seal(checksums => 1, conf => join("\n", 'max_connections = 60', 'autovacuum = on', 'autovacuum_naptime = 1s', 'max_wal_size = 64MB', 'min_wal_size = 32MB',
		'checkpoint_timeout = 30s', 'synchronous_commit = off', 'pg_seal.tombstone_retention = 0', 'wal_level = replica', "max_worker_processes = 20\n"));
$node->start;
$node->set_up_keys($token);
$node->make_tablespace('store');
my $ledger = SealTest::Ledger->new($node, tablespace => 'store');
$ledger->make("kept_$_") for 1 .. 6;
$node->safe_psql('postgres', 'CREATE EXTENSION amcheck; CREATE TABLE fixed TABLESPACE store AS SELECT g AS x, md5(g::text) AS y, repeat($$z$$, 400) AS pad FROM generate_series(1, 30000) g;'
	  . ' CREATE INDEX fixed_y ON fixed (y)');
$node->command_ok([ 'pgbench', '-i', '-q', '-s', 2, '-h', $node->host, '-p', $node->port, '--tablespace=store', 'postgres' ], 'the benchmark: tables in the tablespace, indexes in pg_default');

my $sums = q{
	SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(tbalance) FROM pgbench_tellers)
		AND (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(bbalance) FROM pgbench_branches)
		AND (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT coalesce(sum(delta), 0) FROM pgbench_history)};
my $every_page = q{
	SELECT count(*) FROM pg_class c, LATERAL verify_heapam(c.oid, check_toast => true)
	WHERE relkind IN ('r', 't', 'm') AND relpersistence <> 't'};
my $every_index = q{
	SELECT count(bt_index_check(c.oid, true)::text) > 0 FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_am a ON a.oid = c.relam
	WHERE amname = 'btree' AND c.relkind = 'i' AND indisvalid AND indisready AND relpersistence <> 't'};

# Starts the server, and kills it again before recovery is over (or just after).
sub die_in_recovery
{
	my $pid_file = $node->data_dir . '/postmaster.pid';
	my $former = (split /\n/, SealTest::slurp_raw($pid_file))[0] || 0;
	$node->command_ok([ 'pg_ctl', '-D', $node->data_dir, '-l', $node->logfile, '-W', '-s', 'start' ], 'the server is started');
	my $pid = wait_until(sub {
			my $now = (split /\n/, SealTest::slurp_raw($pid_file))[0] || 0;
			return $now && $now != $former ? $now : 0;
		}, 'the server comes up', every_ms => 10);
	usleep(int rand 500_000);
	$node->{_pid} = $pid;
	$node->crash;
	return;
}

my $history = 0;
for my $round (1 .. $rounds)
{
	set_rate($node, (0, 0, 5, 20, 60)[ int rand 5 ]);
	my $load = SealTest::Load->new($node);
	$load->run(undef, clients => 3);
	$load->run(ddl_storm('store'), name => 'storm in the tablespace', clients => 2);
	$load->run(ddl_storm('pg_default', prefix => 'gale'), name => 'storm in pg_default');
	$load->run("DROP DATABASE IF EXISTS passing;\nCREATE DATABASE passing TABLESPACE store;\n\\sleep 300 ms\nDROP DATABASE passing;\nCHECKPOINT;\n", name => 'databases');
	# What stands from the former round goes on, or is turned round.
	if ($round % 2 == 0)
	{
		$node->psql('postgres', "SELECT seal.cancel_operation($_)") for split /\n/, $node->safe_psql('postgres', q{SELECT id FROM seal.operations WHERE state IN ('pending', 'running')});
	}
	my $work = q{SELECT sum(pages_done) FROM seal.operations};
	my $before = $node->safe_psql('postgres', $work);
	my $moving = start_moving($node, 'store', 'pg_default');
	wait_until(sub { $node->safe_psql('postgres', $work) ne $before }, 'a conversion is under way');
	usleep(int rand 4_000_000);
	my $operations = $node->safe_psql('postgres', q{SELECT count(*) FILTER (WHERE state = 'done'), coalesce(string_agg(kind || ' ' || target || ' ' || pages_done || '/' || pages_total, ', ') FILTER (WHERE state = 'running'), 'none')
		FROM seal.operations});
	note "round $round: operations done|running: $operations";
	$node->safe_psql('postgres', 'SET synchronous_commit = on;' . $ledger->statement("round_$round"));
	$ledger->add("round_$round");
	$node->crash;
	is_deeply([ stop_moving($moving) ], [], "round $round: no conversion failed");
	$load->died_with_server("round $round: the load met no error");
	if ($round % 3 == 2) { die_in_recovery() for 1 .. 2 }
	my $offset = -s $node->logfile;
	$node->start;
	is($node->safe_psql('postgres', $sums), 't', "round $round: the sums are equal");
	my $now = $node->safe_psql('postgres', 'SELECT count(*) FROM pgbench_history');
	cmp_ok($now, '>', $history, "round $round: there was work, and it is kept");
	$history = $now;
	is($node->safe_psql('postgres', 'SELECT count(*), sum(x), md5(string_agg(y, $$,$$ ORDER BY x)) = (SELECT md5(string_agg(md5(g::text), $$,$$ ORDER BY g)) FROM generate_series(1, 30000) g), min(length(pad)) FROM fixed'),
		'30000|450015000|t|400', "round $round: the fixed table is whole");
	$ledger->holds("round $round");
	my ($status, $out, $err) = $node->psql('postgres', "$every_page; $every_index");
	is("$status|$out|$err", "0|0\nt|", "round $round: every page is readable, every index agrees with its table");
	is($node->safe_psql('postgres', q{SELECT count(*) FROM seal.operations WHERE state = 'failed'}), '0', "round $round: no operation failed");
	unlike(slurp_file($node->logfile, $offset), qr/^.*(?:PANIC|terminated by signal|(?:ERROR|FATAL|WARNING): .*(?:key record|is not sealed|invalid page|page verification)).*$/m, "round $round: nothing in the log about keys or pages");
	is_deeply([ whole_pages($node) ], [], "round $round: key files are whole");
}

# --- what stands is waited for, then everything is sealed ---
set_rate($node, 0);
wait_until(sub { $node->safe_psql('postgres', q{SELECT count(*) FROM seal.operations WHERE state IN ('pending', 'running')}) eq '0' }, 'operations end');
$node->safe_psql('postgres', 'DROP DATABASE IF EXISTS passing');
for my $tablespace ('store', 'pg_default')
{
	convert($node, 'encrypt', $tablespace);
	tablespace_is($node, $tablespace, 'sealed', "the end: no plain page in $tablespace", claimed => 1);
}
$ledger->holds('the end');
$node->stop;
$node->command_ok([ 'pg_checksums', '--check', '-D', $node->data_dir ], 'pg_checksums passes');
$node->start;
is($node->safe_psql('postgres', $sums), 't', 'the sums are equal after a clean restart');
$node->stop;
done_testing();
