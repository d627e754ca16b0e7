# Standbys of a primary that seals and unseals: killed with signal 9 at random moments they recover; one that is promoted in the middle goes on by
# itself and ends sealed; one that follows another ends sealed too. Each is judged by its own files. With data checksums and without.
# SEAL_KILL_ROUNDS sets the number of rounds, SEAL_KILL_SEED repeats a run.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Convert;
use SealTest::Everything;
use SealTest::KeyFile;
use SealTest::Load;
use Test::More;
use Time::HiRes qw(usleep sleep);

my $rounds = $ENV{SEAL_KILL_ROUNDS} || 3;
my $seed = $ENV{SEAL_KILL_SEED} || time;
srand $seed;
note "rounds $rounds, SEAL_KILL_SEED=$seed";
my $conf = join("\n", 'max_connections = 40', 'max_wal_size = 64MB', 'min_wal_size = 32MB', 'checkpoint_timeout = 30s', 'wal_keep_size = 1GB', 'hot_standby_feedback = on',
	'pg_seal.tombstone_retention = 0', "max_worker_processes = 20\n");

# What a checkpoint of the primary lets a standby write; then the standby's own restart point.
sub settle
{
	my ($primary, @standbys) = @_;
	$primary->safe_psql('postgres', 'CHECKPOINT');
	for my $standby (@standbys)
	{
		$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
		$standby->safe_psql('postgres', 'CHECKPOINT');
	}
	return;
}

my $name = 0;
for my $checksums (1, 0)
{
	my $with = $checksums ? 'checksums on' : 'checksums off';
	my $suffix = $name++;
	my $primary = SealTest->new("primary$suffix");
	$primary->init_seal(checksums => $checksums, allows_streaming => 1, conf => $conf);
	$primary->start;
	my $token = SealTest::Token->new;
	$primary->set_up_keys($token);
	$primary->make_tablespace('store');
	my $all = SealTest::Everything->new($primary, tablespace => 'store');
	$all->make;
	my $rows = $all->digest;
	$primary->safe_psql('postgres', "CREATE TABLE ballast TABLESPACE store AS SELECT g AS id, md5(g::text) AS note, repeat('x', 200) AS pad FROM generate_series(1, 20000) g");
	$primary->command_ok([ 'pgbench', '-i', '-q', '-s', 1, '-h', $primary->host, '-p', $primary->port, '--tablespace=store', 'postgres' ], "$with: the benchmark's tables");
	my $standby = SealTest->new("standby$suffix");
	$standby->init_from_stock_backup($primary, standby => 1);
	$standby->start;
	my $cascade = SealTest->new("cascade$suffix");
	$cascade->init_from_stock_backup($standby, standby => 1);
	$cascade->start;
	my %as = map { $_->name => SealTest::Everything->new($_, tablespace => 'store') } $standby, $cascade;
	my $ballast = 'SELECT count(*), md5(string_agg(note || pad, $$,$$ ORDER BY id)) FROM ballast';
	my $ballast_is = $primary->safe_psql('postgres', $ballast);
	my $sums = q{SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(tbalance) FROM pgbench_tellers)
		AND (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(bbalance) FROM pgbench_branches)};

	# --- killed, one or the other, while conversions go back and forth ---
	my $load = SealTest::Load->new($primary);
	$load->run(undef, clients => 2);
	$load->run(ddl_storm('store'), name => 'storm');
	my $moving = start_moving($primary, 'store', 'pg_default');
	for my $round (1 .. $rounds)
	{
		set_rate($primary, (0, 5, 20)[ int rand 3 ]);
		usleep(1_000_000 + int rand 2_500_000);
		my $victim = ($standby, $cascade)[ int rand 2 ];
		$victim->crash;
		usleep(int rand 800_000);
		my $offset = -s $victim->logfile;
		$victim->start;
		$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
		$standby->wait_for_catchup($cascade, 'replay', $standby->lsn('replay'));
		for my $node ($standby, $cascade)
		{
			is($as{ $node->name }->digest, $rows, "$with, round $round: every row is on " . $node->name);
			is($node->safe_psql('postgres', $ballast), $ballast_is, "$with, round $round: and the large table");
		}
		unlike(slurp_file($victim->logfile, $offset), qr/^.*(?:PANIC|terminated by signal|(?:ERROR|FATAL|WARNING): .*(?:key record|is not sealed|invalid page|page verification|missing)).*$/m,
			"$with, round $round: nothing in the log of " . $victim->name . ' about keys or pages');
	}
	set_rate($primary, 0);
	$load->stop_without_errors("$with: the load on the primary met no error");
	is_deeply([ stop_moving($moving) ], [], "$with: no conversion failed");
	convert($primary, 'encrypt', $_) for 'store', 'pg_default';
	settle($primary, $standby);
	$standby->wait_for_catchup($cascade, 'replay', $standby->lsn('replay'));
	$cascade->safe_psql('postgres', 'CHECKPOINT');
	for my $node ($primary, $standby, $cascade)
	{
		tablespace_is($node, $_, 'sealed', "$with: " . $node->name . ": no plain page in $_", claimed => 1) for 'store', 'pg_default';
		is($node->safe_psql('postgres', $sums), 't', "$with: " . $node->name . ': the sums agree');
		is_deeply([ whole_pages($node) ], [], "$with: " . $node->name . ': key files are whole');
	}
	is_deeply([ tablespace_holds($standby, 'store', $all->text) ], [], "$with: no row's text is in a file of the standby");

	# --- promoted in the middle ---
	convert($primary, 'decrypt', 'store');
	settle($primary, $standby);
	tablespace_is($standby, 'store', 'plain', "$with: unsealed, the standby's files are plain too", claimed => 1);
	set_rate($primary, 4);
	my $id = begin_convert($primary, 'encrypt', 'store');
	my $middle = wait_until(sub { my $o = operation($primary, $id); return $o->{pages_done} > 500 && $o->{state} eq 'running' ? $o : undef }, 'the conversion is in the middle');
	is(operation($standby, $id)->{state}, 'running', "$with: a standby sees that an operation runs");
	$standby->fails_like('postgres', "SELECT seal.pause_operation($id)", qr/recovery|standby|read-only/, "$with: and cannot change it");
	$primary->crash;
	$standby->promote;
	$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
	wait_until(sub { operation($standby, $id)->{state} =~ /running|done/ }, 'the promoted server goes on');
	my $marks = tablespace_marks($standby, 'store');
	cmp_ok($marks->{plain}, '>', 0, "$with: promoted in the middle ($middle->{pages_done} of $middle->{pages_total} pages)");
	set_rate($standby, 0);
	wait_for_state($standby, $id, 'done');
	tablespace_is($standby, 'store', 'sealed', "$with: the promoted server went on by itself and ended sealed", claimed => 1);
	is($as{ $standby->name }->digest, $rows, "$with: with every row");
	$as{ $standby->name }->is_intact("$with: amcheck finds nothing on the promoted server");
	settle($standby, $cascade);
	tablespace_is($cascade, 'store', 'sealed', "$with: the standby behind it ends sealed by its own files", claimed => 1);
	is($as{ $cascade->name }->digest, $rows, "$with: with every row too");

	# --- a standby that is stopped for the whole of a conversion and catches up afterwards; restarted in the middle of that ---
	$cascade->stop;
	convert($standby, 'decrypt', 'store');
	convert($standby, 'encrypt', 'store');
	$cascade->start;
	$cascade->restart;
	settle($standby, $cascade);
	tablespace_is($cascade, 'store', 'sealed', "$with: a standby that slept through two conversions ends sealed", claimed => 1);
	is($as{ $cascade->name }->digest, $rows, "$with: and reads every row");
	for my $node ($standby, $cascade)
	{
		$node->stop;
		$node->command_ok([ 'pgseal', 'scan', $node->data_dir, '--quiet' ], "$with: pgseal scan finds nothing wrong on " . $node->name);
		$node->command_ok([ 'pg_checksums', '--check', '-D', $node->data_dir ], "$with: pg_checksums passes on " . $node->name) if $checksums;
	}
}
done_testing();
