# Recovery to a point from an archive of sealed segments, for points before WAL was sealed, under each of its keys, while it was in clear again, and sealed anew: every point
# gives the rows of that moment, on a timeline of its own, which the next recovery can follow; the segment that a promotion cuts short is archived sealed.
# Damage: a byte flipped in a sealed page ends recovery there, as in plain WAL, and pg_waldump says so. A WAL key that is not there stops recovery with a PANIC that names it, never
# quietly; so does the library's absence.
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Wal;
use Test::More;

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
$node->init_seal(checksums => 1, allows_streaming => 1, has_archiving => 1, extra => ['--wal-segsize=1'], conf => "wal_keep_size = 0\nmax_wal_size = 16MB\nmin_wal_size = 4MB\n");
$node->start;
$node->set_up_keys($token);
$node->safe_psql('postgres', 'CREATE TABLE t (step text, g int, x text)');
$node->backup('taken', backup_options => [ '-X', 'fetch' ]);

# --- a history with every change of key in it ---
my (%at, @steps);
sub step
{
	my ($name) = @_;
	$node->safe_psql('postgres', "INSERT INTO t SELECT '$name', g, md5(g::text) FROM generate_series(1, 9000) g");
	$at{$name} = { lsn => $node->safe_psql('postgres', q{SELECT pg_current_wal_insert_lsn()}), rows => 9000 * (@steps + 1) };
	push @steps, $name;
	return;
}
sub without_library
{
	my ($when) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
	$node->start_fails_like(qr/invalid info bits .*could not locate a valid checkpoint record/s, "$when: a server without the library does not start");
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_seal'\n");
	return;
}
step('in clear');
enable_wal($node);
# A crash right after the switch: recovery begins behind it, so that a server without the library finds no WAL in clear to replay first.
$node->crash;
without_library('right after WAL is sealed');
$node->start;
is($node->safe_psql('postgres', 'SELECT count(*) FROM t'), $at{'in clear'}{rows}, 'with the library every row is there');
step('first key');
$node->safe_psql('postgres', 'SELECT seal.rotate_wal_key()');
step('second key');
$node->safe_psql('postgres', 'CHECKPOINT; SELECT seal.rotate_wal_key()');
step('third key');
$node->safe_psql('postgres', 'SELECT seal.disable_wal_encryption()');
step('in clear again');
enable_wal($node);
step('sealed anew');
my $last = $node->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_lsn())');
$node->safe_psql('postgres', q{SELECT pg_switch_wal(); SELECT pg_logical_emit_message(true, 'after', 'the end')});
SealTest::Wal::wait_for(sub { -f $node->archive_dir . "/$last" }, "$last is archived");
my %generations = %{ wal_generations(grep { m{/[0-9A-F]{24}$} } wal_segments($node->archive_dir)) };
is_deeply([ sort { $a <=> $b } keys %generations ], [ 1, 2, 3, 4 ], 'the archive has pages of four generations') or diag $node->safe_psql('postgres', 'SELECT * FROM seal.wal_keys');
is($node->safe_psql('postgres', q{SELECT count(*) FROM seal.wal_keys WHERE began_at IS NOT NULL AND first_lsn IS NOT NULL}), '4', 'and the view says when each began');

my $copies = 0;
sub copy_of
{
	my ($source, %params) = @_;
	my $copy = SealTest->new('copy_' . ++$copies);
	$copy->init_from_backup($source, $params{backup} || 'taken', has_restoring => 1, standby => 0);
	my $own = $copy->archive_dir;
	# What it restores: the archive of the primary, then what others added (timelines).
	my $from = join ' || ', map { "cp $_/%f %p" } @{ $params{archives} || [ $source->archive_dir ] };
	$copy->append_conf('postgresql.conf', "restore_command = '$from'\narchive_mode = on\narchive_command = 'cp %p $own/%f'\nrecovery_target_action = 'promote'\n" . ($params{conf} || ''));
	return $copy;
}

my $counts = q{SELECT count(*), count(DISTINCT step), coalesce(bool_and(x = md5(g::text)), true) FROM t};
sub up
{
	my ($copy) = @_;
	$copy->start;
	$copy->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'recovery does not end';
	return;
}

my $cut;    # a server on timeline 2
for my $number (0 .. $#steps)
{
	my $name = $steps[$number];
	my $copy = copy_of($node, conf => "recovery_target_lsn = '$at{$name}{lsn}'\n");
	up($copy);
	is($copy->safe_psql('postgres', $counts), "$at{$name}{rows}|" . ($number + 1) . '|t', "to the point '$name': the rows of that moment");
	is($copy->safe_psql('postgres', 'SELECT timeline_id FROM pg_control_checkpoint()'), '2', 'on a timeline of its own') if $copy->safe_psql('postgres', 'CHECKPOINT') eq '';
	is_sealed_wal($copy, 'which is written sealed') if $name =~ /key|anew/;
	if ($name eq 'second key') { $cut = $copy }
	else { $copy->stop }
}

# --- a timeline after a timeline: the segment in which the first one ended is there in part, and sealed ---
$cut->safe_psql('postgres', q{INSERT INTO t SELECT 'second timeline', g, md5(g::text) FROM generate_series(1, 9000) g; SELECT seal.rotate_wal_key()});
my $second = $cut->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
my $segment = $cut->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_lsn())');
$cut->safe_psql('postgres', q{SELECT pg_switch_wal(); SELECT pg_logical_emit_message(true, 'after', 'the end')});
SealTest::Wal::wait_for(sub { -f $cut->archive_dir . "/$segment" }, "$segment is archived");
my $third = copy_of($node, archives => [ $cut->archive_dir, $node->archive_dir ], conf => "recovery_target_timeline = '2'\nrecovery_target_lsn = '$second'\n");
up($third);
is($third->safe_psql('postgres', $counts), ($at{'second key'}{rows} + 9000) . '|4|t', 'recovery follows the second timeline over its beginning');
$third->stop;
$cut->stop;
my $count = count_wal_marks(grep { m{/00000002} } wal_segments($cut->archive_dir));
cmp_ok($count->{sealed}, '>', 50, 'segments of the second timeline are archived sealed');
is($count->{plain}, 0, 'all of them');

# --- promotion of a standby archives the last segment of the old timeline in part ---
my $standby = SealTest->new('standby');
$standby->init_from_backup($node, 'taken', has_streaming => 1);
my $own = $standby->archive_dir;
$standby->append_conf('postgresql.conf', 'restore_command = \'cp ' . $node->archive_dir . "/%f %p'\narchive_mode = on\narchive_command = 'cp %p $own/%f'\n");
$standby->start;
$node->safe_psql('postgres', q{INSERT INTO t SELECT 'streamed', g, md5(g::text) FROM generate_series(1, 100) g});
$node->wait_for_catchup($standby);
$standby->promote;
$standby->safe_psql('postgres', q{INSERT INTO t VALUES ('promoted', 1, md5('1')); SELECT pg_switch_wal()});
SealTest::Wal::wait_for(sub { my @partial = glob "$own/*.partial"; @partial }, 'a partial segment is archived');
my $marks = count_wal_marks(glob "$own/*.partial");
ok($marks->{sealed} > 0 && $marks->{plain} == 0, 'the partial segment is sealed');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM t WHERE step IN ('streamed', 'promoted')}), '101', 'and the standby has every row');
$standby->stop;

# --- damage ---
$node->safe_psql('postgres', q{CREATE TABLE after_all (x int); CHECKPOINT; SELECT pg_switch_wal(); INSERT INTO after_all SELECT generate_series(1, 2000)});
my $page_of = $node->safe_psql('postgres', q{SELECT pg_walfile_name(pg_current_wal_insert_lsn()) || ' ' || (pg_walfile_name_offset(pg_current_wal_insert_lsn())).file_offset / 8192});
$node->safe_psql('postgres', 'INSERT INTO after_all SELECT generate_series(1, 20000)');
$node->stop('immediate');
my ($file, $page) = split / /, $page_of;
my $path = $node->data_dir . "/pg_wal/$file";
my $whole = SealTest::slurp_raw($path);
sub put
{
	my ($bytes) = @_;
	open my $out, '+<:raw', $path or die "$path: $!";
	print $out $bytes;
	close $out or die "$path: $!";
	return;
}
my $damaged = $whole;
substr($damaged, ($page + 1) * 8192 + 3000, 1) ^= "\x10";
put($damaged);
my ($out, $err) = ('', '');
IPC::Run::run([ 'pgseal', 'exec', '--', 'pg_waldump', $path ], '<', \undef, '>', \$out, '2>', \$err);
like($err, qr/incorrect resource manager data checksum|invalid record length|invalid resource manager|record with incorrect prev-link/, 'pg_waldump names the damaged record');
my $offset = -s $node->logfile;
$node->start;
like(slurp_file($node->logfile, $offset), qr/LOG:  (?:incorrect resource manager data checksum in record|invalid record length|invalid resource manager ID|record with incorrect prev-link)[^\n]*\n.*redo done at/s, 'recovery ends at the damaged record, as in plain WAL');
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM after_all'), '<', 22000, 'without the rows behind it');
$node->safe_psql('postgres', q{INSERT INTO after_all SELECT generate_series(1, 2000)});

# --- a key that is not there ---
$node->safe_psql('postgres', 'SELECT pg_switch_wal(); SELECT pg_logical_emit_message(true, $$x$$, $$y$$)');
my $kept = $node->safe_psql('postgres', 'INSERT INTO t VALUES ($$before the key went$$, 1, md5($$1$$)); SELECT count(*) FROM t');
$node->stop('immediate');
my $registry = $node->data_dir . '/pg_seal/registry';
my $right = SealTest::slurp_raw($registry);
{
	# The registry of the backup, from before WAL was sealed, over the present one.
	my $former = SealTest::slurp_raw($node->backup_dir . '/taken/pg_seal/registry');
	$token->write($registry, $former);
	$node->start_fails_like(qr/PANIC:  could not read WAL at [0-9A-F]+\/[0-9A-F]+: its page is sealed with generation \d+ of the WAL key, which is not there/, 'a registry that does not know the key: PANIC with the reason');
	unlike(slurp_file($node->logfile, $offset), qr/database system is ready to accept connections.*PANIC.*redo done at/s, 'and no end of recovery');
}

# --- a server without the library ---
$token->write($registry, $right);
without_library('after more of it');
$node->start;
is($node->safe_psql('postgres', 'SELECT count(*) FROM t'), $kept, 'with registry and library again: every row');
$node->stop;
done_testing();
