# A crash at each step of making a key record loses no key and leaves nothing behind that is in the way: every table made before
# is whole, the same statement works afterwards, the key file stays a whole number of valid pages. At each step the process
# alone dies (the server recovers by itself) and, separately, the whole machine does. A full disk is an error that changes nothing.
use strict;
use warnings;
use File::Copy;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Crash;
use SealTest::KeyFile;
use SealTest::Ledger;
use Test::More;

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
init_for_crashes($node, checksums => 1);
$node->start;
$node->set_up_keys($token);
my $directory = $node->make_tablespace('secure', sealed => 1);
my $ledger = SealTest::Ledger->new($node);
$ledger->make("early_$_") for 1 .. 3;

my @steps = map { "keymap.$_" } qw(before_insert after_insert write_page after_write before_publish after_publish);
my $number = 0;
for my $step (@steps)
{
	for my $power (0, 1)
	{
		my $table = 'crash_' . ++$number;
		die_at($node, $step, $ledger->statement($table), power => $power);
		$node->start if $power;
		my $how = "$step, " . ($power ? 'machine' : 'process');
		is($node->safe_psql('postgres', "SELECT to_regclass('$table') IS NULL"), 't', "$how: the table was not made");
		is_deeply([ whole_pages($node) ], [], "$how: key files are whole pages, one slot for each relation");
		$ledger->make($table);
		$ledger->holds($how);
	}
}

# --- a step inside a larger transaction: what it made before goes, what was committed stays ---
$number++;
die_at($node, 'keymap.before_publish:2', 'BEGIN;' . $ledger->statement("crash_$number") . 'COMMIT;', power => 1);
$node->start;
$ledger->make("crash_$number");
$ledger->holds('the second relation of a transaction');

# --- dropping: the slot is written after the commit ---
$ledger->make('dropped');
$ledger->remove('dropped');
die_at($node, 'keymap.write_page', 'DROP TABLE dropped', power => 1);
$node->start;
is($node->safe_psql('postgres', "SELECT to_regclass('dropped') IS NULL"), 't', 'a crash while a dropped table is buried: it is dropped');
$ledger->holds('crash while dropping');
$node->safe_psql('postgres', q{SET pg_seal.debug_crash_point = 'keymap.write_page:enospc'; DROP TABLE IF EXISTS early_3});
$ledger->remove('early_3');
$ledger->holds('a full disk while dropping');

# --- the file grows: one page holds 31 slots ---
my $file = key_file_of($node, 'postgres');
my $before = -s $file;
my $fill = 31 - key_slots($file) % 31;
$node->safe_psql('postgres', join '', map { "CREATE TABLE fill_$_ (x int) TABLESPACE secure;" } 1 .. $fill);
is(-s $file, $before, 'the key file is full') or diag(scalar(key_slots($file)) . " slots, $before bytes");
my $whole = $ledger->statement('grown');
for my $step ('keymap.grow', 'keymap.write_page', 'keymap.before_insert')
{
	$node->fails_like('postgres', "SET pg_seal.debug_crash_point = '$step:enospc'; CREATE TABLE none (x int) TABLESPACE secure",
		qr/could not extend key file "[^"]+": No space left on device.*HINT: .*nothing was changed/s,
		"$step:enospc: a full disk is an error that says so")
	  unless $step eq 'keymap.before_insert';
	is(-s $file, $before, "$step: the key file is as it was");
	die_at($node, $step, $whole, power => 1);
	$node->start;
	is_deeply([ whole_pages($node) ], [], "$step while the file grows: whole pages");
	$ledger->holds("$step while the file grows");
}
$node->stop;
open my $tail, '>>:raw', $file or die "$file: $!";
print $tail "\0" x 8192;    # what a crash leaves of a growing file
close $tail;
$node->start;
$ledger->make('grown');
$ledger->holds('grown after a page of zeroes');

# --- a full disk in the critical section: the server recovers ---
for my $step ("keymap.write_page:enospc", "keymap.fsync:enospc")
{
	$number++;
	my $offset = -s $node->logfile;
	my ($status, undef, $err) = $node->psql('postgres', "SET pg_seal.debug_crash_point = '$step';" . $ledger->statement("crash_$number"));
	isnt($status, 0, "$step: the statement fails");
	wait_until_up($node, $offset);
	like(slurp_file($node->logfile, $offset), qr/PANIC:  could not (write|fsync) key file "[^"]+": No space left on device/,
		"$step: the log names the file and the reason");
	$ledger->make("crash_$number");
	$ledger->holds($step);
}

# --- a database without a key file yet ---
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->fails_like('other', q{SET pg_seal.debug_crash_point = 'keymap.grow:enospc'; CREATE TABLE t (x int) TABLESPACE secure},
	qr/could not extend key file/, 'a full disk at the first key of a database');
is($node->safe_psql('other', 'CREATE TABLE p (x int); SELECT count(*) FROM p'), '0', 'plain tables are made there all the same');
die_at($node, 'keymap.grow', 'CREATE TABLE t (x int) TABLESPACE secure', database => 'other', power => 1);
$node->start;
is($node->safe_psql('other', 'CREATE TABLE t TABLESPACE secure AS SELECT 5 AS x; SELECT x FROM t'), '5', 'and sealed ones afterwards');

# --- recovery itself dies, and is run again. The record stands in WAL alone: its relation was committed and filled. ---
$node->safe_psql('postgres', 'CHECKPOINT');
copy($file, "$file.before") or die "$file: $!";
$ledger->make('replayed');
$node->crash;
my @after = SealTest::pages_of($file);
my @before = SealTest::pages_of("$file.before");
move("$file.before", $file) or die "$file: $!";
recovery_dies_at($node, 'keymap.redo_before_write');
recovery_dies_at($node, 'keymap.redo_after_write');
recovery_dies_at($node, 'keymap.write_page');
recovery_dies_at($node, 'keymap.after_write');
$node->start;
$ledger->holds('records that only WAL had, after crashes in recovery');

# --- a torn page of the key file: each record lies in one sector ---
for my $part ('first', 'last', 'every other')
{
	$node->safe_psql('postgres', 'CHECKPOINT');
	@before = SealTest::pages_of($file);
	$ledger->make('torn_' . ($part =~ s/ /_/r));
	$node->crash;
	@after = SealTest::pages_of($file);
	my ($changed) = grep { $before[$_] ne $after[$_] } 0 .. $#before;
	my @old = unpack('(a512)*', $before[$changed]);
	my @new = unpack('(a512)*', $after[$changed]);
	my @torn = map { ($part eq 'first' ? $_ == 0 : $part eq 'last' ? $_ > 0 : $_ % 2) ? $new[$_] : $old[$_] } 0 .. 15;
	$after[$changed] = join '', @torn;
	spit_raw($file, join '', @after);
	$node->start;
	$ledger->holds("a torn page of the key file, $part sectors new");
	$node->stop;
	$node->command_ok([ 'pg_checksums', '--check', '-D', $node->data_dir ], "pg_checksums passes after it ($part)");
	$node->start;
}

# --- the number of a relation that never came to be, and of one that was dropped, is used again ---
sub reuse
{
	my ($rel_node, $sql, $what) = @_;
	$node->safe_psql('postgres', 'VACUUM pg_class; VACUUM pg_type; CHECKPOINT');    # dead rows keep their OID from being given again
	$node->stop;
	system_or_bail('pg_resetwal', '-o', $rel_node, '-D', $node->data_dir);
	$node->start;
	$node->safe_psql('postgres', $sql);
	is($node->safe_psql('postgres', "SELECT pg_relation_filenode('again')"), $rel_node, "$what: the relfilenode is used again");
	return;
}
my %known = map { $_->{rel_node} => 1 } key_slots($file);
die_at($node, 'keymap.after_publish', 'CREATE TABLE never (x int) TABLESPACE secure', power => 1);
$node->start;
my ($orphan) = grep { !$known{ $_->{rel_node} } } key_slots($file);
ok($orphan, 'a crash after the key record leaves a record without a relation');
my $text = "SELECT 'again-' || g AS x FROM generate_series(1, 1000) g";
reuse($orphan->{rel_node}, "CREATE TABLE again TABLESPACE secure AS $text", 'never made');
my $content = 'SELECT count(*), md5(string_agg(x, chr(10) ORDER BY x)) FROM again';
my $expected = $node->safe_psql('postgres', "SELECT count(*), md5(string_agg(x, chr(10) ORDER BY x)) FROM ($text) again");
$node->restart;
is($node->safe_psql('postgres', $content), $expected, 'it reads back');
is($node->is_sealed_on_disk('postgres', 'again'), 1, 'sealed');
is(scalar(grep { $_->{rel_node} == $orphan->{rel_node} } key_slots($file)), 1, 'with one record');
my ($first_bytes) = map { substr($_, 24) } SealTest::pages_of(($node->relation_files('postgres', 'again'))[0]);

$node->safe_psql('postgres', 'DROP TABLE again; CHECKPOINT');
reuse($orphan->{rel_node}, "CREATE TABLE again TABLESPACE secure AS $text", 'dropped');
$node->restart;
is($node->safe_psql('postgres', $content), $expected, 'it reads back');
my ($again_bytes) = map { substr($_, 24) } SealTest::pages_of(($node->relation_files('postgres', 'again'))[0]);
isnt($again_bytes, $first_bytes, 'under another key');

$node->safe_psql('postgres', 'DROP TABLE again; CHECKPOINT');
$node->safe_psql('postgres', q{SELECT seal.decrypt_tablespace('secure')});
reuse($orphan->{rel_node}, "CREATE TABLE again TABLESPACE secure AS $text", 'dropped, and the tablespace is plain now');
$node->restart;
is($node->safe_psql('postgres', $content), $expected, 'it reads back');
is($node->is_sealed_on_disk('postgres', 'again'), 0, 'plain');
$node->crash;
$node->start;
is($node->safe_psql('postgres', $content), $expected, 'also after a crash');
$ledger->holds('at the end');

# --- the stock tools agree ---
is_deeply([ whole_pages($node) ], [], 'key files are whole pages');
unlike(slurp_file($node->logfile), qr/(ERROR|FATAL|PANIC): .*(key of sealed block|does not verify|is missing|recovery ended without)/,
	'no key was ever missed');
$node->stop;
$node->command_ok([ 'pg_checksums', '--check', '-D', $node->data_dir ], 'pg_checksums passes');
$node->start;
$ledger->holds('after a clean restart');
$node->stop;
done_testing();
