# A key record needs no flush and no fsync of its own: WAL brings it back until the next checkpoint, and that checkpoint makes the key file
# durable before it completes, on a primary and on a standby, also when the queue of sync requests is full, in single-user mode, and whatever
# happens to the database meanwhile. What a machine that stops may leave of the file is put right.
use strict;
use warnings;
use File::Copy;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Crash;
use SealTest::KeyFile;
use SealTest::Ledger;
use Test::More;

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
init_for_crashes($node, checksums => 1, allows_streaming => 1,
	conf => "fsync = on\nlog_checkpoints = on\nlog_min_messages = debug1\ncheckpoint_timeout = 1h\nmax_locks_per_transaction = 200\nwal_keep_size = 256MB\n");
$node->start;
$node->set_up_keys($token);
my $directory = $node->make_tablespace('secure', sealed => 1);
my $ledger = SealTest::Ledger->new($node);
$ledger->make("early_$_") for 1 .. 3;
my $file = key_file_of($node, 'postgres');

# How often the checkpoints since this point of the log have made a key file durable.
sub synced
{
	my ($server, $offset, $pattern) = @_;
	my @found = slurp_file($server->logfile, $offset) =~ /checkpoint sync: number=\d+ file=($pattern)/g;
	return scalar @found;
}
my $any = qr{\S*/pg_seal_keys};

# --- a checkpoint makes it durable, once for many records, and only when something was written ---
my $offset = -s $node->logfile;
$ledger->make("many_$_") for 1 .. 4;
is(synced($node, $offset, $any), 0, 'making relations fsyncs no key file by a checkpoint');
$node->safe_psql('postgres', 'CHECKPOINT');
is(synced($node, $offset, $any), 1, 'the next checkpoint does, once');
$offset = -s $node->logfile;
$node->safe_psql('postgres', 'CREATE TABLE open_table (x int); CHECKPOINT');
is(synced($node, $offset, $any), 0, 'and no more while nothing is written to it');

# --- a crash right after the commit, before any checkpoint: what the file lost comes back from WAL ---
my $at_checkpoint = SealTest::slurp_raw($file);
$ledger->make('fresh');
$node->crash;
$node->start;
$ledger->holds('killed right after the commit');
$node->safe_psql('postgres', 'CHECKPOINT');
$at_checkpoint = SealTest::slurp_raw($file);
$ledger->make('lost');
$node->crash;
spit_raw($file, $at_checkpoint);
$node->start;
$ledger->holds('no write since the checkpoint reached the key file');

# --- the file grew and the machine stopped: shorter, cut within a page, or with a page of zeroes ---
for my $case ([ 'shorter' => sub { $_[1] } ],
	[ 'cut within a page' => sub { substr($_[0], 0, length($_[1]) + 4096) } ],
	[ 'a page of zeroes' => sub { $_[1] . "\0" x (length($_[0]) - length $_[1]) } ],
	[ 'half a page of zeroes' => sub { $_[1] . "\0" x 4096 } ])
{
	my ($what, $damage) = @$case;
	my $name = 'grown_' . ($what =~ s/ /_/gr);
	$node->safe_psql('postgres', 'CHECKPOINT');
	my $before = SealTest::slurp_raw($file);
	my $made = 0;
	until (-s $file > length $before)
	{
		die 'the key file does not grow' if $made > 200;
		$node->safe_psql('postgres', join '', map { ++$made; "CREATE TABLE ${name}_$made (x int) TABLESPACE secure;" } 1 .. 8);
	}
	$ledger->make($name);
	$node->crash;
	spit_raw($file, $damage->(SealTest::slurp_raw($file), $before));
	$node->start;
	$ledger->holds("the key file grew, $what");
	is_deeply([ whole_pages($node) ], [], "$what: whole pages, one slot for each relation");
	$node->stop;
	$node->command_ok([ 'pg_checksums', '--check', '-D', $node->data_dir ], "$what: pg_checksums passes");
	$node->start;
}

# --- every record that a checkpoint passes is on disk before it completes: the copy that the checkpoint made durable needs no WAL from before ---
$node->safe_psql('postgres', 'CHECKPOINT');
is_deeply([ sort map { $_->{rel_node} } grep { !$_->{dropped_lsn} } key_slots($file) ],
	[ split /\n/, $node->safe_psql('postgres', q{SELECT pg_relation_filenode(c.oid) FROM pg_class c JOIN pg_tablespace t ON t.oid = reltablespace
		WHERE spcname = 'secure' AND pg_relation_filenode(c.oid) IS NOT NULL ORDER BY pg_relation_filenode(c.oid)::text}) ],
	'after a checkpoint each sealed relation has its record in the file');

# --- the queue of requests is full: the writer makes the file durable itself ---
{
	my ($checkpointer) = grep { /checkpointer/ } map { my $pid = $_; my $title = eval { slurp_file("/proc/$pid/cmdline") } // ''; "$pid $title" }
	  SealTest::children_of($node->{_pid});
	my ($pid) = $checkpointer =~ /^(\d+)/;
	my $room = $node->safe_psql('postgres', q{SELECT setting FROM pg_settings WHERE name = 'shared_buffers'});
	my $own = $node->safe_psql('postgres', 'SELECT buffers_backend_fsync FROM pg_stat_bgwriter');
	kill 'STOP', $pid;
	$node->safe_psql('postgres', 'BEGIN;' . join('', map { "CREATE TABLE full_$_ (x int) TABLESPACE secure;" } 1 .. $room + 20) . 'COMMIT;');
	kill 'CONT', $pid;
	$node->poll_query_until('postgres', 'SELECT true');
	cmp_ok($node->safe_psql('postgres', 'CHECKPOINT; SELECT pg_sleep(0.6); SELECT buffers_backend_fsync FROM pg_stat_bgwriter') =~ s/\s//gr, '>', $own,
		'with the checkpointer held the queue filled up');
	$ledger->make('after_full');
	$node->crash;
	$node->start;
	$ledger->holds('after the queue was full');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_class WHERE relname LIKE $$full\_%$$'), $room + 20, 'every relation was made');
}

# --- databases that come, move and go with requests pending ---
$node->safe_psql('postgres', 'CREATE DATABASE going');
$node->safe_psql('going', 'CREATE TABLE t (x int) TABLESPACE secure');
$offset = -s $node->logfile;
$node->safe_psql('postgres', 'DROP DATABASE going');
$node->safe_psql('postgres', 'CHECKPOINT');
$node->make_tablespace($_, sealed => 1) for qw(two three);
$node->safe_psql('postgres', 'CREATE DATABASE moving TABLESPACE two STRATEGY wal_log');
$node->safe_psql('moving', 'CREATE TABLE t TABLESPACE secure AS SELECT g AS x FROM generate_series(1, 100) g; CREATE TABLE u AS SELECT * FROM t');
$node->safe_psql('postgres', 'ALTER DATABASE moving SET TABLESPACE three');
$node->safe_psql('moving', 'CREATE TABLE v AS SELECT * FROM t');
$offset = -s $node->logfile;
$node->safe_psql('postgres', 'CHECKPOINT');
is(synced($node, $offset, qr{pg_tblspc/\d+/PG_15_\d+/\d+/pg_seal_keys}), 1, 'after a move the checkpoint finds the key file in its new place');
$node->safe_psql('postgres', 'CREATE DATABASE copied TEMPLATE moving STRATEGY file_copy TABLESPACE three');
$node->safe_psql('copied', 'CREATE TABLE w AS SELECT * FROM v');
$node->crash;
$node->start;
is($node->safe_psql($_, 'SELECT (SELECT sum(x) FROM t), (SELECT sum(x) FROM u), (SELECT sum(x) FROM v)'), '5050|5050|5050', "$_ reads right") for qw(moving copied);
is($node->safe_psql('copied', 'SELECT sum(x) FROM w'), '5050', 'so does what was made after the copy');
$node->safe_psql('postgres', 'DROP DATABASE copied; CHECKPOINT');
is($node->psql('postgres', 'CREATE DATABASE failing TABLESPACE secure STRATEGY wal_log TEMPLATE no_such'), 3, 'a creation that fails');
$node->safe_psql('postgres', 'CHECKPOINT');

# --- what has been seen of a file is noted when a checkpoint has made it durable, not before ---
sub put_back_older
{
	my ($checkpoint) = @_;
	$node->safe_psql('postgres', 'CHECKPOINT');
	my $old = SealTest::slurp_raw($file);
	$ledger->make($checkpoint ? 'noted' : 'unnoted');
	$node->safe_psql('postgres', 'CHECKPOINT') if $checkpoint;
	$node->crash;
	my $new = SealTest::slurp_raw($file);
	spit_raw($file, $old);
	return $new;
}
put_back_older(0);
$node->start;
$ledger->holds('an older copy whose later records WAL still has');
my $newest = put_back_older(1);
$node->start;
$node->fails_like('postgres', 'SELECT count(*) FROM noted', qr/is older than one this server has already used/, 'an older copy that misses a checkpoint is refused');
$node->stop('immediate');
spit_raw($file, $newest);
$node->start;
$ledger->holds('the newest copy, put back');

# --- a standby: restart points make its own key file durable, redo puts it right ---
my $standby = SealTest->new('standby');
$standby->init_from_stock_backup($node, standby => 1);
$standby->start;
$ledger->make('streamed');
$node->safe_psql('postgres', 'CHECKPOINT');
$node->wait_for_catchup($standby);
$offset = -s $standby->logfile;
$standby->safe_psql('postgres', 'CHECKPOINT');
cmp_ok(synced($standby, $offset, $any), '>=', 1, 'a restart point makes the key file of the standby durable');
my ($standby_file) = map { $standby->data_dir . "/$_" } $file =~ m{(base/\d+/pg_seal_keys)$};
my $at_restart_point = SealTest::slurp_raw($standby_file);
$ledger->make('streamed_later');
$node->wait_for_catchup($standby);
$standby->crash;
spit_raw($standby_file, $at_restart_point);
$standby->start;
$node->wait_for_catchup($standby);
my $on_standby = SealTest::Ledger->new($standby);
$on_standby->{tables} = $ledger->{tables};
$on_standby->holds('a standby whose key file lost all since its restart point');

# Stopped cleanly without a new restart point, it reads the same WAL again and finds every record in place: that must not keep the next restart
# point from making them durable.
$ledger->make('streamed_last');
$node->wait_for_catchup($standby);
$standby->stop;
$standby->start;
$node->safe_psql('postgres', 'CHECKPOINT');
$node->wait_for_catchup($standby);
$offset = -s $standby->logfile;
$standby->safe_psql('postgres', 'CHECKPOINT');
cmp_ok(synced($standby, $offset, $any), '>=', 1, 'records that redo finds in place are made durable all the same');
$on_standby->{tables} = $ledger->{tables};
$on_standby->holds('the standby at the end');
$standby->stop;

# --- single-user mode, and a server that only prints a setting ---
$node->stop;
{
	my @command = ('postgres', '--single', '-D', $node->data_dir, 'postgres');
	my $sql = "CREATE TABLE alone TABLESPACE secure AS SELECT g AS x FROM generate_series(1, 100) g\nCHECKPOINT\n";
	my ($out, $err) = ('', '');
	ok(IPC::Run::run(\@command, '<', \$sql, '>', \$out, '2>', \$err), 'single-user mode makes a sealed relation') or diag($err);
	like($err, qr{checkpoint sync: number=\d+ file=base/\d+/pg_seal_keys}, 'its checkpoint makes the key file durable');
	ok(IPC::Run::run([ 'postgres', '-C', 'shared_buffers', '-D', $node->data_dir ], '>', \$out, '2>', \$err), 'postgres -C prints a setting');
}
$node->start;
is($node->safe_psql('postgres', 'SELECT sum(x) FROM alone'), '5050', 'what single-user mode made reads right');
$ledger->holds('at the end');
unlike(slurp_file($_->logfile), qr/PANIC|could not fsync/, $_->name . ': no checkpoint ever failed') for $node, $standby;
$node->stop;
done_testing();
