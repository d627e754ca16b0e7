# A conversion can be paused, resumed, cancelled and left alone; it goes on after a restart, and after the statement that waited for it was
# cancelled. What it meets on the way and cannot read makes it fail at the end, with everything else done, and a later run mends that.
# Its progress moves and reaches its total.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Convert;
use SealTest::KeyFile;
use Test::More;
use Time::HiRes qw(sleep time);

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
$node->init_seal(checksums => 1, conf => "wal_level = replica\n");
$node->start;
$node->set_up_keys($token);
$node->make_tablespace('store');
my @tables = map { "t$_" } 1 .. 12;
$node->safe_psql('postgres', join ';', map { "CREATE TABLE $_ TABLESPACE store AS SELECT g AS id, md5('$_' || g) AS note, repeat('x', 200) AS pad"
			. " FROM generate_series(1, 12000) g; CREATE INDEX ${_}_note ON $_ (note) TABLESPACE store" } @tables);
my $digest = join ' UNION ALL ', map { "SELECT '$_', count(*), sum(id), md5(string_agg(note || pad, ',' ORDER BY id)) FROM $_" } @tables;
$digest .= ' ORDER BY 1';
my $expected = $node->safe_psql('postgres', $digest);
sub rows_are_there { is($node->safe_psql('postgres', $digest), $expected, "$_[0]: every row is there"); return }

# Relations of which some pages are sealed and some plain.
sub mixed_relations
{
	$node->safe_psql('postgres', 'CHECKPOINT');
	my @mixed;
	for my $relation (map { ($_, "${_}_note") } @tables)
	{
		my $count = count_marks($node->relation_files('postgres', $relation));
		push @mixed, "$relation: $count->{sealed} sealed, $count->{plain} plain" if $count->{sealed} && $count->{plain};
	}
	return @mixed;
}

# --- progress ---
set_rate($node, 6);
my $id = begin_convert($node, 'encrypt', 'store');
my @seen;
wait_until(sub {
		my $operation = operation($node, $id);
		push @seen, $operation->{pages_done} if $operation->{state} eq 'running';
		return @seen && $seen[-1] > 2000;
	}, 'pages are done', every_ms => 200);
cmp_ok(scalar(grep { $seen[$_] > $seen[ $_ - 1 ] } 1 .. $#seen), '>=', 3, 'pages_done grows') or diag "@seen";
is(scalar(grep { $seen[$_] < $seen[ $_ - 1 ] } 1 .. $#seen), 0, 'and never falls');
my $operation = operation($node, $id);
cmp_ok($operation->{pages_total}, '>', $operation->{pages_done}, 'pages_total is beyond it');
is("$operation->{kind} $operation->{target}", 'encrypt store', 'the operation says what it is');
is($node->safe_psql('postgres', "SELECT phase <> '' AND rate_mb_s > 0 AND time_left > interval '0' AND requested_by = 'postgres' AND wal_bytes > 0 FROM seal.operations WHERE id = $id"),
	't', 'phase, rate, time left, WAL and who asked for it are shown');

# --- pause ---
$node->safe_psql('postgres', "SELECT seal.pause_operation($id)");
wait_for_state($node, $id, 'paused');
wait_until(sub { operation($node, $id)->{detail} !~ /finishes/ }, 'its worker leaves');
my $paused_at = operation($node, $id)->{pages_done};
sleep 3;
is(operation($node, $id)->{pages_done}, $paused_at, 'a paused operation does nothing');
my $marks = tablespace_marks($node, 'store');
ok($marks->{sealed} && $marks->{plain}, 'some pages are sealed, others plain');
rows_are_there('paused');
$node->safe_psql('postgres', 'CREATE TABLE born_paused TABLESPACE store AS SELECT 1 AS x');
is($node->is_sealed_on_disk('postgres', 'born_paused'), 1, 'what is created meanwhile is sealed');
$node->restart;
is(operation($node, $id)->{state}, 'paused', 'it stays paused over a restart');
$node->crash;
$node->start;
is(operation($node, $id)->{state}, 'paused', 'and over a crash');
rows_are_there('paused and crashed');

# --- resume ---
$node->safe_psql('postgres', "SELECT seal.resume_operation($id)");
wait_until(sub { operation($node, $id)->{pages_done} > $paused_at + 500 }, 'it goes on');
pass('a resumed operation goes on');

# --- restart and crash while it runs ---
$node->restart;
wait_until(sub { operation($node, $id)->{state} eq 'running' }, 'it runs again');
pass('after a restart it goes on by itself');
rows_are_there('restarted');
$node->crash;
$node->start;
wait_until(sub { operation($node, $id)->{state} eq 'running' }, 'it runs again');
rows_are_there('crashed');
set_rate($node, 0);
$operation = wait_for_state($node, $id, 'done');
is($operation->{pages_done}, $operation->{pages_total}, 'at the end the pages done are all pages');
tablespace_is($node, 'store', 'sealed', 'and every page is sealed');
rows_are_there('sealed');
for my $call ('pause', 'resume', 'cancel')
{
	my ($status) = $node->psql('postgres', "SELECT seal.${call}_operation($id)");
	isnt($status, 0, "${call}_operation refuses an operation that is done");
}
$node->fails_like('postgres', 'SELECT seal.pause_operation(987654)', qr/987654/, 'nor is an operation known that was never begun');

# --- cancel ---
set_rate($node, 6);
$id = begin_convert($node, 'decrypt', 'store');
wait_until(sub { operation($node, $id)->{pages_done} > 1000 }, 'pages are done');
$node->safe_psql('postgres', "SELECT seal.cancel_operation($id)");
wait_for_state($node, $id, 'cancelled');
wait_until(sub { operation($node, $id)->{detail} !~ /finishes/ }, 'its worker ends');
is_deeply([ mixed_relations() ], [], 'a cancelled operation finishes the relations in hand');
$marks = tablespace_marks($node, 'store');
ok($marks->{sealed} && $marks->{plain}, 'cancelled: some relations are unsealed, others not, none half');
rows_are_there('cancelled');
my ($status) = $node->psql('postgres', "SELECT seal.resume_operation($id)");
isnt($status, 0, 'a cancelled operation cannot be resumed');
is($node->safe_psql('postgres', q{SELECT count(*) FROM seal.relations WHERE tablespace = 'store' AND state NOT IN ('sealed', 'plain')}), '0', 'seal.relations knows of none on its way');

# Cancelled while it is paused: what lies half-way is finished too. And what an operation left can be turned round.
$id = begin_convert($node, 'decrypt', 'store');
wait_until(sub { operation($node, $id)->{pages_done} > 600 }, 'pages are done');
$node->safe_psql('postgres', "SELECT seal.pause_operation($id)");
wait_until(sub { operation($node, $id)->{detail} !~ /finishes/ }, 'its worker leaves');
$node->safe_psql('postgres', "SELECT seal.cancel_operation($id)");
wait_for_state($node, $id, 'cancelled');
ok(eval { wait_until(sub { mixed_relations() == 0 }, 'nothing is left half-way', every_ms => 500, patience => 60) }, 'cancelled while paused: no relation is left half-way')
  or diag join "\n", mixed_relations();
rows_are_there('cancelled while paused');
$node->safe_psql('postgres', 'CREATE TABLE plain_again TABLESPACE store AS SELECT 1 AS x');
is($node->is_sealed_on_disk('postgres', 'plain_again'), 0, 'what is created then follows the policy that was set last');

# --- a statement that waits, cancelled ---
my ($out, $err) = ('', '');
my $waiting = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "SET application_name = 'waits'", '-c', "SELECT seal.encrypt_tablespace('store')" ],
	'<', \undef, '>', \$out, '2>', \$err);
wait_until(sub { $node->safe_psql('postgres', q{SELECT pages_done > 200 FROM seal.operations ORDER BY id DESC LIMIT 1}) eq 't' }, 'the statement waits');
$id = $node->safe_psql('postgres', 'SELECT max(id) FROM seal.operations');
is($node->safe_psql('postgres', q{SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE application_name = 'waits'}), '1', 'the waiting statement is cancelled');
$waiting->finish;
like($err, qr/ERROR:\s+canceling statement due to user request/, 'it ends with the usual error');
like($err, qr/operation $id|goes on/i, 'which says that the operation goes on');
is(operation($node, $id)->{state}, 'running', 'and so it does');
set_rate($node, 0);
wait_for_state($node, $id, 'done');
tablespace_is($node, 'store', 'sealed', 'to its end: every page is sealed');

# In a transaction block nobody may wait.
$node->fails_like('postgres', q{BEGIN; SELECT seal.decrypt_tablespace('store')}, qr/transaction block/, 'wait => true is refused in a transaction block');
is($node->safe_psql('postgres', q{SELECT count(*) FROM seal.operations WHERE state IN ('pending', 'running', 'paused')}), '0', 'and begins nothing');

# --- a page that cannot be read ---
convert($node, 'decrypt', 'store');
my ($file) = $node->relation_files('postgres', 't5');
$node->stop;
my $good = SealTest::slurp_raw($file);
my $bad = $good;
substr($bad, 7 * 8192 + 4000, 8) = 'damaged!';
spit_raw($file, $bad);
$node->start;
my $log_from = -s $node->logfile;
($status, $out, $err) = $node->psql('postgres', "SELECT seal.encrypt_tablespace('store')");
isnt($status, 0, 'a damaged page makes the operation fail');
like($err, qr/t5|block 7|invalid page/, 'and the error names it');
$id = $node->safe_psql('postgres', 'SELECT max(id) FROM seal.operations');
$operation = operation($node, $id);
is($operation->{state}, 'failed', 'seal.operations says so');
like($operation->{detail}, qr/t5|block 7|invalid page/, 'and where');
like(slurp_file($node->logfile, $log_from), qr/invalid page in block 7 of relation/, 'and so does the log');
for my $relation (grep { $_ ne 't5' } map { ($_, "${_}_note") } @tables)
{
	my $sealed = $node->is_sealed_on_disk('postgres', $relation);
	is($sealed, 1, "$relation is sealed all the same") if $relation =~ /^(t1|t4_note|t5_note|t6|t12)$/ || $sealed ne '1';
}
$node->fails_like('postgres', 'SELECT count(*) FROM t5', qr/invalid page in block 7/, 'the damage is as it was: nothing was zeroed or garbled');
my $block6 = $node->safe_psql('postgres', q{SELECT count(*) FROM t5 WHERE ctid < '(7,0)'});
cmp_ok($block6, '>', 100, 'and its other pages read');
$node->stop;
# The page comes back from a backup: in the form that its relation has on disk elsewhere does not matter, pages tell for themselves.
my $now = SealTest::slurp_raw($file);
is(substr($now, 7 * 8192, 8192), substr($bad, 7 * 8192, 8192), 'the damaged page was not touched');
substr($now, 7 * 8192, 8192) = substr($good, 7 * 8192, 8192);
spit_raw($file, $now);
$node->start;
convert($node, 'encrypt', 'store');
tablespace_is($node, 'store', 'sealed', 'repaired and run again: everything is sealed');
rows_are_there('repaired');
is($node->safe_psql('postgres', q{SELECT count(*) FROM seal.audit_log WHERE event LIKE 'operation.%'}) > 5 ? 1 : 0, 1, 'the audit log tells of it');
$node->stop;
done_testing();
