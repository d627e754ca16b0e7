# Rounds of kill -9 of every process of the server under pgbench and a storm of DDL in a sealed tablespace, some of them during
# recovery: the sums of the benchmark stay equal, every page of every relation is readable, every index agrees with its table, and
# no key is ever missed. SEAL_KILL_ROUNDS sets the number of rounds.
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use Test::More;
use Time::HiRes qw(usleep);

my $rounds = $ENV{SEAL_KILL_ROUNDS} || 4;
my $seed = $ENV{SEAL_KILL_SEED} || time;
srand $seed;
note "rounds $rounds, SEAL_KILL_SEED=$seed";

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
$node->init_seal(checksums => 1, conf => join("\n", 'autovacuum = on', 'autovacuum_naptime = 1s', 'max_wal_size = 48MB', 'min_wal_size = 32MB',
		'checkpoint_timeout = 30s', 'synchronous_commit = off', 'pg_seal.tombstone_retention = 0', 'max_parallel_workers_per_gather = 0'));
$node->start;
$node->set_up_keys($token);
$node->make_tablespace('secure', sealed => 1);
$node->make_tablespace('secure2', sealed => 1);
$node->safe_psql('postgres', 'CREATE EXTENSION amcheck; CREATE TABLE fixed TABLESPACE secure AS SELECT g AS x, md5(g::text) AS y FROM generate_series(1, 20000) g;'
	  . ' CREATE INDEX ON fixed (y) TABLESPACE secure2');
$node->command_ok([ 'pgbench', '-i', '-q', '-s', 2, '-h', $node->host, '-p', $node->port, '--tablespace=secure',
		'--index-tablespace=secure', 'postgres' ], 'pgbench tables in the sealed tablespace');

my $storm = $node->basedir . '/storm.sql';
$token->write($storm, q{
DROP TABLE IF EXISTS storm_:client_id;
CREATE TABLE storm_:client_id (id int, pad text, long text, PRIMARY KEY (id) USING INDEX TABLESPACE secure) TABLESPACE secure;
INSERT INTO storm_:client_id SELECT g, md5(g::text), CASE WHEN g % 50 = 0 THEN repeat(md5(g::text), 200) END FROM generate_series(1, 400) g;
CREATE INDEX storm_pad_:client_id ON storm_:client_id (pad) TABLESPACE secure2;
DELETE FROM storm_:client_id WHERE id % 3 = 0;
VACUUM storm_:client_id;
VACUUM FULL storm_:client_id;
ALTER TABLE storm_:client_id SET TABLESPACE pg_default;
ALTER TABLE storm_:client_id SET TABLESPACE secure2;
REINDEX TABLE storm_:client_id;
CLUSTER storm_:client_id USING storm_pad_:client_id;
BEGIN;
TRUNCATE storm_:client_id;
INSERT INTO storm_:client_id SELECT g, md5(g::text) FROM generate_series(1, 300) g;
COMMIT;
BEGIN;
TRUNCATE storm_:client_id;
CREATE TABLE never_:client_id (x int) TABLESPACE secure;
INSERT INTO never_:client_id VALUES (1);
ROLLBACK;
DROP MATERIALIZED VIEW IF EXISTS view_:client_id;
CREATE MATERIALIZED VIEW view_:client_id TABLESPACE secure AS SELECT * FROM fixed WHERE x % 10 = :client_id;
REFRESH MATERIALIZED VIEW view_:client_id;
DROP TABLE IF EXISTS unlogged_:client_id;
CREATE UNLOGGED TABLE unlogged_:client_id (x int PRIMARY KEY USING INDEX TABLESPACE secure) TABLESPACE secure;
INSERT INTO unlogged_:client_id SELECT generate_series(1, 500);
CREATE TEMP TABLE passing TABLESPACE secure AS SELECT g FROM generate_series(1, 300) g;
DROP TABLE passing;
});
my $databases = $node->basedir . '/databases.sql';
$token->write($databases, q{
DROP DATABASE IF EXISTS passing;
CREATE DATABASE passing TABLESPACE secure2;
\sleep 300 ms
CHECKPOINT;
DROP DATABASE passing;
\sleep 500 ms
});

sub load
{
	my @base = ('pgbench', '-n', '-h', $node->host, '-p', $node->port, '-T', 600);
	my @jobs = ([ @base, '-c', 3, 'postgres' ], [ @base, '-c', 2, '-f', $storm, 'postgres' ], [ @base, '-f', $databases, 'postgres' ]);
	my @running;
	for my $job (@jobs)
	{
		my $text = '';
		push @running, { text => \$text, run => IPC::Run::start($job, '<', \undef, '>', \$text, '2>&1') };
	}
	return @running;
}

my $every_page = q{
	SELECT count(*) FROM pg_class c, LATERAL verify_heapam(c.oid, check_toast => true)
	WHERE relkind IN ('r', 't', 'm') AND relpersistence <> 't'};
my $every_index = q{
	SELECT count(bt_index_check(c.oid, true)::text) > 0 FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_am a ON a.oid = c.relam
	WHERE amname = 'btree' AND indisvalid AND indisready AND relpersistence <> 't'};
my $sums = q{
	SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(tbalance) FROM pgbench_tellers)
		AND (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(bbalance) FROM pgbench_branches)
		AND (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT coalesce(sum(delta), 0) FROM pgbench_history)};

# Starts the server, and kills it again before recovery is over (or just after). The file postmaster.pid of the former server lies
# there still: only a process that was not there before is ours.
sub die_in_recovery
{
	my $pid_file = $node->data_dir . '/postmaster.pid';
	my $former = (split /\n/, SealTest::slurp_raw($pid_file))[0] || 0;
	$node->command_ok([ 'pg_ctl', '-D', $node->data_dir, '-l', $node->logfile, '-W', '-s', 'start' ], 'the server is started');
	for (1 .. 1000)
	{
		my $pid = (split /\n/, SealTest::slurp_raw($pid_file))[0] || 0;
		if ($pid && $pid != $former)
		{
			usleep(int rand 400_000);
			$node->{_pid} = $pid;
			$node->crash;
			return;
		}
		usleep(10_000);
	}
	die 'the server did not come up';
}

my $history = 0;
for my $round (1 .. $rounds)
{
	my @running = load();
	usleep(2_500_000 + int rand 1_500_000);
	$node->crash;
	for my $job (@running)
	{
		$job->{run}->finish;
		unlike(${ $job->{text} }, qr/ERROR|FATAL: (?!.*(?:shutting down|starting up|recovery mode|unexpected postmaster exit))/, "round $round: the load met no error");
	}
	if ($round % 2 == 0) { die_in_recovery() for 1 .. 2 }
	my $offset = -s $node->logfile;
	$node->start;
	is($node->safe_psql('postgres', $sums), 't', "round $round: the sums are equal");
	my $now = $node->safe_psql('postgres', 'SELECT count(*) FROM pgbench_history');
	cmp_ok($now, '>', $history, "round $round: there was work, and it is kept");
	$history = $now;
	is($node->safe_psql('postgres', 'SELECT count(*), sum(x), max(y) = min(y) FROM fixed'), '20000|200010000|f', "round $round: the fixed table is whole");
	my ($status, $out, $err) = $node->psql('postgres', "$every_page; $every_index");
	is("$status|$out|$err", "0|0\nt|", "round $round: every page is readable, every index agrees with its table");
	unlike(slurp_file($node->logfile, $offset), qr/^.*(?:PANIC|(?:ERROR|FATAL|WARNING): .*(?:key|sealed|invalid page)).*$/m, "round $round: nothing in the log about keys");
}

# --- what the rounds left behind goes away, and the files pass the stock tools ---
$node->safe_psql('postgres', 'DROP DATABASE IF EXISTS passing');
is($node->is_sealed_on_disk('postgres', 'pgbench_accounts'), 1, 'the benchmark is sealed on disk');
$node->stop;
$node->command_ok([ 'pg_checksums', '--check', '-D', $node->data_dir ], 'pg_checksums passes');
$node->start;
is($node->safe_psql('postgres', $sums), 't', 'the sums are equal after a clean restart');
$node->stop;
done_testing();
