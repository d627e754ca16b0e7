# Rounds of kill -9 of the primary or its standby under load, all WAL sealed, with a cascading standby, an archive that the standbys restore from, and new WAL keys at
# random moments. After each round the three have the same rows and the benchmark's sums are equal. At the end a server is restored from the archive alone,
# a standby is promoted, the primary goes on by itself for a while, pg_rewind turns it into a standby of the new primary, and the
# rows are the same again. SEAL_KILL_ROUNDS sets the number of rounds, SEAL_KILL_SEED repeats a run.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Load;
use SealTest::Wal;
use Test::More;
use Time::HiRes qw(usleep);

my $rounds = $ENV{SEAL_KILL_ROUNDS} || 3;
my $seed = $ENV{SEAL_KILL_SEED} || time;
srand $seed;
note "rounds $rounds, SEAL_KILL_SEED=$seed";

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
$node->init_seal(checksums => 1, allows_streaming => 1, has_archiving => 1, extra => ['--wal-segsize=1'], conf => join("\n", 'max_wal_size = 32MB', 'min_wal_size = 8MB', 'checkpoint_timeout = 30s', 'wal_keep_size = 8MB', 'max_connections = 40',
		'synchronous_commit = on', 'max_prepared_transactions = 5', 'hot_standby_feedback = on', 'restart_after_crash = off', "max_standby_streaming_delay = 5s\n"));
# A segment is archived under its name only when it is whole, and once.
my $archive = $node->archive_dir;
$node->append_conf('postgresql.conf', "archive_command = 'test -f $archive/%f || (cp %p $archive/%f.part && mv $archive/%f.part $archive/%f)'\n");
$node->start;
$node->set_up_keys($token);
enable_wal($node);
$node->safe_psql('postgres', "SELECT seal.encrypt_tablespace('pg_default')");
$node->command_ok([ 'pgbench', '-i', '-q', '-s', 1, '-h', $node->host, '-p', $node->port, 'postgres' ], 'the benchmark');
$node->safe_psql('postgres', 'CREATE TABLE fixed AS SELECT g AS x, md5(g::text) AS y FROM generate_series(1, 5000) g');

# A standby of $from that restores from the archive where streaming does not reach back far enough.
sub make_standby
{
	my ($name, $from) = @_;
	my $standby = SealTest->new($name);
	$from->backup($name, backup_options => [ '-X', 'fetch' ]);
	$standby->init_from_backup($from, $name, has_streaming => 1);
	$standby->append_conf('postgresql.conf', "restore_command = 'cp $archive/%f %p'\nrecovery_target_timeline = 'latest'\narchive_mode = off\n");
	$standby->start;
	return $standby;
}
my $standby = make_standby('standby', $node);
my $cascade = make_standby('cascade', $standby);

sub catch_up
{
	my ($from, @nodes) = @_;
	my $lsn = $from->safe_psql('postgres', 'SELECT pg_current_wal_lsn()');
	for my $each (@nodes)
	{
		$each->poll_query_until('postgres', "SELECT pg_last_wal_replay_lsn() >= '$lsn'") or die $each->name . ' does not catch up';
	}
	return;
}

sub agree
{
	my ($what, $from, @nodes) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	catch_up($from, @nodes);
	sums_are_equal($from, "$what: the sums are equal");
	my $digest = benchmark_digest($from);
	is(benchmark_digest($_), $digest, "$what: " . $_->name . ' has the same rows') for @nodes;
	return;
}

my $complaint = qr/^.*(?:PANIC|terminated by signal (?!9)|(?:ERROR|FATAL|WARNING): .*(?:key|sealed|invalid page|could not (?:read|write) WAL)).*$/m;
my %offset = map { $_->name => -s $_->logfile } $node, $standby, $cascade;
my $rotations = 0;
for my $round (1 .. $rounds)
{
	my $load = SealTest::Load->new($node);
	$load->run(undef, clients => 3, options => ['--max-tries=5']);
	$load->run("BEGIN;\nCREATE TABLE passing_:client_id AS SELECT g, md5(g::text) AS t FROM generate_series(1, 500) g;\nDROP TABLE passing_:client_id;\nCOMMIT;\nBEGIN;\nINSERT INTO fixed VALUES (0, 'never');\nROLLBACK;\n", name => 'tables that come and go');
	my $victim = (qw(primary standby both))[ int rand 3 ];
	my $rotate = rand() < 0.6;
	usleep(300_000 + int rand 1_500_000);
	my $rotation;
	if ($rotate)
	{
		my $said = '';
		$rotation = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'SELECT seal.rotate_wal_key()' ], '<', \undef, '>', \$said, '2>&1');
		usleep(int rand 800_000);
	}
	note "round $round: $victim dies" . ($rotate ? ' while the WAL key changes' : '');
	my @dead;
	if ($victim ne 'primary') { $standby->crash; push @dead, $standby }
	usleep(int rand 700_000);
	if ($victim ne 'standby') { $node->crash; push @dead, $node; $load->died_with_server("round $round: the load met no error") }
	else { $load->stop_without_errors("round $round: the load goes on without the standby") }
	if ($rotation) { eval { $rotation->finish }; $rotations++ }
	$_->start for reverse @dead;
	agree("round $round", $node, $standby, $cascade);
	for my $each ($node, $standby, $cascade)
	{
		unlike(slurp_file($each->logfile, $offset{ $each->name }), $complaint, "round $round: nothing in the log of " . $each->name . ' about keys or WAL');
		$offset{ $each->name } = -s $each->logfile;
	}
	is_sealed_wal($node, "round $round: WAL is sealed");
}
my $keys = $node->safe_psql('postgres', q{SELECT count(*) FILTER (WHERE began_at IS NOT NULL), count(*) FILTER (WHERE state = 'active') FROM seal.wal_keys});
note "$rotations rotations begun; generations begun|active: $keys";
like($keys, qr/^\d+\|1$/, 'one WAL key is active');

# --- the archive is sealed and whole: a server made of it alone is the primary's equal ---
my $restored = SealTest->new('restored');
$restored->init_from_backup($node, 'standby', has_restoring => 1, standby => 0);
$restored->append_conf('postgresql.conf', "archive_mode = off\n");
my $target = $node->safe_psql('postgres', 'SELECT pg_current_wal_lsn()');
my $digest = benchmark_digest($node);
my $segment = $node->safe_psql('postgres', "SELECT pg_walfile_name('$target')");
$node->safe_psql('postgres', q{SELECT pg_logical_emit_message(true, 'end', 'end'); SELECT pg_switch_wal()});
SealTest::Wal::wait_for(sub { -f "$archive/$segment" }, "$segment is archived");
$restored->append_conf('postgresql.conf', "recovery_target_lsn = '$target'\nrecovery_target_action = 'promote'\n");
$restored->start;
$restored->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
is(benchmark_digest($restored), $digest, 'what is restored from the archive has the same rows');
$restored->stop;
my $count = count_wal_marks(grep { m{/[0-9A-F]{24}$} } wal_segments($archive));
cmp_ok($count->{sealed}, '>', 100, 'the archive is sealed');

# --- promotion; the old primary goes on by itself, then is rewound ---
$node->stop;
# What the others need to follow it stays there: it has no archive of its own.
$standby->append_conf('postgresql.conf', "wal_keep_size = 256MB\n");
$standby->reload;
$standby->promote;
$standby->safe_psql('postgres', 'CHECKPOINT');
$node->append_conf('postgresql.conf', "archive_mode = off\nwal_keep_size = 128MB\nrestore_command = 'cp $archive/%f %p'\n");
$node->start;    # it does not know that it is the primary no more
for my $each ($node, $standby)
{
	my $load = SealTest::Load->new($each);
	$load->run(undef, clients => 2);
	usleep(1_000_000);
	$each->safe_psql('postgres', 'CREATE TABLE apart_' . $each->name . ' AS SELECT g, md5(g::text) AS t FROM generate_series(1, 2000) g; SELECT seal.rotate_wal_key()');
	usleep(500_000);
	$load->stop_without_errors($each->name . ' works alone');
}
$node->stop;
my $diverged = -s $node->logfile;
$node->command_ok([ 'pgseal', 'exec', '--', 'pg_rewind', '--target-pgdata', $node->data_dir, '--source-server', $standby->connstr('postgres'), '--restore-target-wal', '--no-sync', '--write-recovery-conf' ],
	'pg_rewind of the old primary');
$node->append_conf('postgresql.conf', 'port = ' . $node->port . "\nunix_socket_directories = '" . $node->host . "'\narchive_mode = off\n");
$node->start;
agree('after pg_rewind', $standby, $node, $cascade);
is($node->safe_psql('postgres', q{SELECT string_agg(relname, ' ') FROM pg_class WHERE relname LIKE 'apart%'}), 'apart_standby', 'the tables of the new primary, none of its own');
is($node->safe_psql('postgres', 'SELECT count(*), md5(string_agg(t, $$,$$ ORDER BY g)) FROM apart_standby'), $standby->safe_psql('postgres', 'SELECT count(*), md5(string_agg(t, $$,$$ ORDER BY g)) FROM apart_standby'),
	'and what they hold');
unlike(slurp_file($node->logfile, $diverged), $complaint, 'nothing in its log about keys or WAL');
is($standby->safe_psql('postgres', 'SELECT count(*), sum(x) FROM fixed'), '5000|12502500', 'the fixed table is whole');
is_sealed_wal($standby, 'WAL of the new primary is sealed');
$_->stop for $cascade, $node, $standby;
done_testing();
