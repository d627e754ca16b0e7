# Base backups and points in time before, in the middle of and after a conversion: each restored server has every row of its moment, goes on with the
# operation by itself and ends sealed. A primary that went on alone is rewound, by the stock pg_rewind, onto the one that was
# promoted in the middle of a conversion.
use strict;
use warnings;
use File::Copy;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Convert;
use SealTest::Everything;
use SealTest::KeyFile;
use SealTest::Load;
use Test::More;
use Time::HiRes qw(sleep);

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
$node->init_seal(checksums => 1, allows_streaming => 1, has_archiving => 1, conf => join("\n", 'max_connections = 40', 'max_wal_size = 64MB', 'min_wal_size = 32MB',
		'wal_keep_size = 1GB', 'pg_seal.tombstone_retention = 1h', "max_worker_processes = 20\n"));
$node->start;
$node->set_up_keys($token);
$node->make_tablespace('store');
my $all = SealTest::Everything->new($node, tablespace => 'store');
$all->make;
my $rows = $all->digest;
$node->safe_psql('postgres', q{
	CREATE TABLE ballast TABLESPACE store AS SELECT g AS id, md5(g::text) AS note, repeat('x', 200) AS pad FROM generate_series(1, 25000) g;
	CREATE TABLE steps (n int PRIMARY KEY, note text) TABLESPACE store});
my $ballast = 'SELECT count(*), md5(string_agg(note || pad, $$,$$ ORDER BY id)) FROM ballast';
my $ballast_is = $node->safe_psql('postgres', $ballast);

my $step = 0;
my %steps_at;
# A moment to come back to: its name, and how many steps there were.
sub mark_point
{
	my ($point) = @_;
	$node->safe_psql('postgres', 'INSERT INTO steps SELECT ' . ++$step . qq{, 'step'; SELECT pg_create_restore_point('$point')});
	$steps_at{$point} = $step;
	$node->safe_psql('postgres', 'INSERT INTO steps SELECT ' . ++$step . q{, 'after the point'});
	return;
}
my @restored;
sub backup
{
	my ($name) = @_;
	my $copy = SealTest->new($name);
	$copy->init_from_stock_backup($node, archive => 1);
	return $copy;
}

# --- backups before, marks and backups on the way ---
my %from = map { $_ => backup("before_to_$_") } qw(before middle late after);
my $load = SealTest::Load->new($node);
$load->run(ddl_storm('store'), name => 'storm', clients => 2);
mark_point('before');
set_rate($node, 1);
my $id = begin_convert($node, 'encrypt', 'store');
wait_until(sub { operation($node, $id)->{pages_done} > 150 }, 'the conversion is under way');
mark_point('middle');
my %from_middle = map { $_ => backup("middle_to_$_") } qw(late after);
my $operation = operation($node, $id);
is($operation->{state}, 'running', "the conversion runs on ($operation->{pages_done} of $operation->{pages_total} pages) after two base backups");
mark_point('late');
my $last = backup('late_to_after');
is(operation($node, $id)->{state}, 'running', 'and after the third');
set_rate($node, 0);
wait_for_state($node, $id, 'done');
mark_point('after');
$load->stop_without_errors('the load met no error');
tablespace_is($node, 'store', 'sealed', 'the primary is sealed', claimed => 1);
my $end = $node->safe_psql('postgres', 'SELECT pg_switch_wal()');
$node->poll_query_until('postgres', "SELECT last_archived_wal IS NOT NULL AND last_archived_wal >= pg_walfile_name('$end') FROM pg_stat_archiver") or die 'the archiver did not keep up';

sub restored_to
{
	my ($copy, $point) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $what = $copy->name;
	$copy->append_conf('postgresql.conf', "recovery_target_name = '$point'\nrecovery_target_action = 'promote'\narchive_mode = off\n");
	$copy->start;
	$copy->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'recovery did not end';
	my $everything = SealTest::Everything->new($copy, tablespace => 'store');
	is($everything->digest, $rows, "$what: every row is there");
	is($copy->safe_psql('postgres', $ballast), $ballast_is, "$what: and the large table");
	is($copy->safe_psql('postgres', 'SELECT max(n) FROM steps'), $steps_at{$point}, "$what: it is the moment that was asked for");
	my $state = $copy->safe_psql('postgres', "SELECT state FROM seal.operations WHERE id = $id");
	if ($point eq 'before')
	{
		is($state, '', "$what: no operation is known");
		tablespace_is($copy, 'store', 'plain', "$what: everything is plain", checkpoint => 1, claimed => 1);
		convert($copy, 'encrypt', 'store');
	}
	else
	{
		like($state, $point eq 'after' ? qr/^done$/ : qr/^(running|pending|done)$/, "$what: the operation is $state");
		set_rate($copy, 0);
		wait_for_state($copy, $id, 'done');
	}
	tablespace_is($copy, 'store', 'sealed', "$what: it ends sealed", checkpoint => 1, claimed => 1);
	is($everything->digest, $rows, "$what: with every row");
	$everything->is_intact("$what: amcheck finds nothing");
	is_deeply([ whole_pages($copy) ], [], "$what: key files are whole");
	unlike(slurp_file($copy->logfile), qr/^.*(?:PANIC|terminated by signal|(?:ERROR|FATAL|WARNING): .*(?:key record|is not sealed|invalid page|page verification)).*$/m, "$what: nothing in its log about keys or pages");
	$copy->stop;
	$copy->command_ok([ 'pg_checksums', '--check', '-D', $copy->data_dir ], "$what: pg_checksums passes");
	return;
}
restored_to($from{$_}, $_) for qw(before middle late after);
restored_to($from_middle{$_}, $_) for qw(late after);
restored_to($last, 'after');

# --- pg_rewind ---
# $diverge: what both do after the standby's promotion, before the former primary is rewound onto it.
sub rewound
{
	my ($what, $old, $new, $diverge) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$new->promote;
	$new->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
	$new->safe_psql('postgres', "CHECKPOINT; INSERT INTO steps VALUES (10000, 'on the new primary')");
	$old->safe_psql('postgres', "INSERT INTO steps VALUES (10001, 'on the old primary'); CREATE TABLE lost TABLESPACE store AS SELECT generate_series(1, 3000) AS x;"
		  . q{UPDATE ballast SET pad = 'lost' WHERE id % 3 = 0});
	$diverge->();
	$old->stop;
	my $conf = SealTest::slurp_raw($old->data_dir . '/postgresql.conf');
	$new->safe_psql('postgres', 'CHECKPOINT');
	$old->command_ok([ 'pg_rewind', '--no-sync', '-D', $old->data_dir, '--source-server', $new->connstr('postgres') ], "$what: the stock pg_rewind runs");
	spit_raw($old->data_dir . '/postgresql.conf', $conf);
	$old->append_conf('postgresql.conf', "archive_mode = off\n");
	$old->enable_streaming($new);
	$old->start;
	return;
}
sub same_rows
{
	my ($what, $old, $new) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$new->safe_psql('postgres', 'CHECKPOINT');
	$new->wait_for_catchup($old, 'replay', $new->lsn('insert'));
	$old->safe_psql('postgres', 'CHECKPOINT');
	tablespace_is($new, 'store', 'sealed', "$what: the new primary is sealed", claimed => 1);
	tablespace_is($old, 'store', 'sealed', "$what: the rewound one is sealed, by its own files", claimed => 1);
	is(SealTest::Everything->new($old, tablespace => 'store')->digest, $rows, "$what: the rewound one reads every row");
	is($old->safe_psql('postgres', $ballast), $ballast_is, "$what: and the large table as it was");
	is($old->safe_psql('postgres', q{SELECT string_agg(note, ',') FROM steps WHERE n >= 10000; SELECT to_regclass('lost') IS NULL}), "on the new primary\nt", "$what: what it did alone is gone");
	unlike(slurp_file($old->logfile, $_[3]), qr/^.*(?:PANIC|terminated by signal|(?:ERROR|FATAL|WARNING): .*(?:key record|is not sealed|invalid page|page verification)).*$/m, "$what: nothing in its log about keys or pages");
	return;
}

convert($node, 'decrypt', 'store');
my $second = SealTest->new('second');
$second->init_from_stock_backup($node, standby => 1);
$second->append_conf('postgresql.conf', "archive_mode = off\n");
$second->start;
set_rate($node, 1);
$id = begin_convert($node, 'encrypt', 'store');
wait_until(sub { operation($node, $id)->{pages_done} > 200 }, 'the conversion is under way');
my $offset = -s $node->logfile;
rewound('promoted in the middle', $node, $second, sub {
		set_rate($second, 0);
		wait_for_state($second, $id, 'done');
		set_rate($node, 0);
		wait_for_state($node, $id, 'done');    # both end the conversion, each alone, each with keys of its own
	});
same_rows('promoted in the middle', $node, $second, $offset);

# And back: the rewound server is promoted; meanwhile the other one unseals everything for itself, and is rewound in turn.
$second->safe_psql('postgres', 'DELETE FROM steps WHERE n >= 10000');
$second->wait_for_catchup($node, 'replay', $second->lsn('insert'));
$offset = -s $second->logfile;
rewound('unsealed alone', $second, $node, sub {
		convert($second, 'decrypt', 'store');
		tablespace_is($second, 'store', 'plain', 'the diverged primary is plain', claimed => 1);
	});
same_rows('unsealed alone', $second, $node, $offset);
$_->stop for $second, $node;
for my $server ($second, $node)
{
	$server->command_ok([ 'pg_checksums', '--check', '-D', $server->data_dir ], 'pg_checksums passes on ' . $server->name);
	$server->command_ok([ 'pgseal', 'scan', $server->data_dir, '--quiet' ], 'pgseal scan finds nothing wrong on ' . $server->name);
}
done_testing();
