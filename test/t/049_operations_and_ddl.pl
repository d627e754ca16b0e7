# Operations beside everything else that goes on in a cluster: statements that need a database for themselves, workers and launchers that end, a
# server without a free worker, keyrings whose keys only the token unwraps, a standby that looks on. And what a waiting call tells.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Convert;
use Test::More;
use Time::HiRes qw(sleep time);

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
$node->init_seal(checksums => 1, allows_streaming => 1);
$node->start;
$node->set_up_keys($token);
$node->make_tablespace($_) for 'store', 'other';
sub fill { $node->safe_psql($_[0], 'CREATE TABLE filled TABLESPACE store AS SELECT g AS id, repeat(md5(g::text), 25) AS pad FROM generate_series(1, 16000) g'); return }
sub digest { return $node->safe_psql($_[0], 'SELECT count(*), sum(id), md5(string_agg(pad, $$$$ ORDER BY id)) FROM filled') }
sub workers { return $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_seal conversion'}) }
sub worker_in { return $node->safe_psql('postgres', q{SELECT datname FROM pg_stat_activity WHERE backend_type = 'pg_seal conversion'}) }
$node->safe_psql('postgres', "CREATE DATABASE $_") for 'first', 'second';
fill($_) for 'first', 'second';
my $expected = digest('first');

# --- statements that need the database in which the worker is ---
set_rate($node, 2);
my $id = begin_convert($node, 'encrypt', 'store');
wait_until(sub { worker_in() eq 'first' && operation($node, $id)->{pages_done} > 100 }, 'a worker in the first database');
my %took;
for my $statement ('ALTER DATABASE first RENAME TO renamed', 'CREATE DATABASE copied TEMPLATE renamed', 'ALTER DATABASE renamed SET TABLESPACE other',
	'CREATE DATABASE raw TEMPLATE renamed STRATEGY file_copy', 'ALTER DATABASE renamed RENAME TO first', 'DROP DATABASE raw')
{
	wait_until(sub { workers() > 0 }, 'a worker at work');
	my $from = time;
	my ($status, $out, $err) = $node->psql('postgres', $statement);
	is($status, 0, "$statement beside the worker") or diag $err;
	$took{$statement} = time - $from;
}
diag join ', ', map { sprintf '%s: %.1f s', $_, $took{$_} } sort keys %took;
is(operation($node, $id)->{state}, 'running', 'the operation goes on');
$node->safe_psql('postgres', 'DROP DATABASE copied WITH (FORCE)');
wait_until(sub { workers() > 0 }, 'a worker at work');

# --- a worker, or the launcher, is ended ---
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pg_seal conversion'});
wait_until(sub { workers() > 0 }, 'another worker');
pass('a worker that was terminated has a successor');
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE backend_type = 'pg_seal operations'});
wait_until(sub { $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_seal operations'}) == 1 }, 'another launcher');
wait_until(sub { workers() > 0 }, 'its worker');
is(workers(), 1, 'a launcher that was terminated has a successor, which goes on with one worker');
is(operation($node, $id)->{state}, 'running', 'and with the operation');

# --- a standby looks on ---
my $standby = SealTest->new('standby');
$standby->init_from_stock_backup($node, standby => 1);
$standby->start;
$node->wait_for_catchup($standby);
is(operation($standby, $id)->{state}, 'running', 'a standby shows the operation');
$standby->fails_like('postgres', "SELECT seal.${_}_operation($id)", qr/during recovery/, "${_}_operation is refused there") for 'pause', 'resume', 'cancel';
is($standby->safe_psql('postgres', q{SELECT status FROM seal.health WHERE check_name = 'operations worker'}), 'info', 'and its health is none the worse');
set_rate($node, 0);
wait_for_state($node, $id, 'done');
tablespace_is($node, 'store', 'sealed', 'every page of every database is sealed');
is(digest($_), $expected, "$_: every row is there") for 'first', 'second';
is($node->safe_psql('postgres', q{SELECT count(*) FROM seal.operations WHERE state NOT IN ('done')}), '0', 'nothing is left over');
$node->wait_for_catchup($standby);
is(operation($standby, $id)->{state}, 'done', 'the standby shows the end');
$standby->stop;

# --- what a waiting call tells ---
set_rate($node, 1);
my ($status, $out, $err) = $node->psql('postgres', q{SET statement_timeout = '9s'; SELECT seal.decrypt_tablespace('store')});
isnt($status, 0, 'a waiting call heeds statement_timeout');
like($err, qr/NOTICE:\s+unsealing \d+ pages \([\d.]+ MB\) of tablespace "store" in place, which writes about [\d.]+ MB of WAL/, 'it tells what begins');
like($err, qr/NOTICE:\s+operation \d+: \d+%, \d+ of \d+ pages, [\d.]+ MB\/s, \d+:\d\d:\d\d left, now unsealing in \w+\.\w+\.\w+/, 'how far it is');
my $notices = () = $err =~ /NOTICE:\s+operation/g;
ok($notices >= 1 && $notices <= 3, "now and then ($notices in 9 s)");
like($err, qr/WARNING:\s+operation \d+ goes on.*HINT:.*seal\.cancel_operation\(\d+\).*ERROR:\s+canceling statement due to statement timeout/s, 'and that it goes on');
$id = $node->safe_psql('postgres', 'SELECT max(id) FROM seal.operations');
my $waiting = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', q{SELECT seal.encrypt_tablespace('other')} ],
	'<', \undef, '>', \$out, '2>', \$err);
wait_until(sub { $node->safe_psql('postgres', q{SELECT detail FROM seal.operations ORDER BY id DESC LIMIT 1}) eq "waits until operation $id has ended" }, 'the next one waits');
pass('one operation at a time: the next waits for its turn');
$node->safe_psql('postgres', q{SELECT seal.cancel_operation(max(id)) FROM seal.operations});
$waiting->finish;
like($err, qr/ERROR:\s+operation \d+ was cancelled: cancelled by postgres/, 'who waits for a cancelled operation is told so');
set_rate($node, 0);
wait_for_state($node, $id, 'done');

# --- no free worker ---
$node->append_conf('postgresql.conf', 'max_worker_processes = 4');    # the agent, the reaper, the launcher, logical replication's
$node->restart;
$id = begin_convert($node, 'encrypt', 'store');
wait_until(sub { operation($node, $id)->{detail} =~ /max_worker_processes = 4/ }, 'the operation says why it waits');
is(operation($node, $id)->{state}, 'running', 'without a free worker it waits, and says for what');
$node->append_conf('postgresql.conf', 'max_worker_processes = 3');
$node->restart;
is($node->safe_psql('postgres', q{SELECT status FROM seal.health WHERE check_name = 'operations worker'}), 'error', 'without a launcher seal.health says so');
like(operation($node, $id)->{detail}, qr/does not run/, 'and the operation');
$node->append_conf('postgresql.conf', 'max_worker_processes = 8');
$node->restart;
wait_for_state($node, $id, 'done');
is(digest($_), $expected, "$_: every row is there") for 'first', 'second';

# --- the shared catalogs under a keyring whose keys only the token unwraps: who connects right after a start waits for them ---
$node->safe_psql('postgres', q{SELECT seal.create_keyring('inside', 'hsm', protection => 'hsm')});
convert($node, 'encrypt', 'pg_global', keyring => 'inside');
for my $round (1 .. 3)
{
	$node->stop($round == 3 ? 'immediate' : 'fast');
	my $log_from = -s $node->logfile;
	my $starting = IPC::Run::start([ 'pg_ctl', '-w', '-D', $node->data_dir, '-l', $node->logfile, 'start' ], '>', \my $ignored, '2>&1');
	my ($answers, @failures) = (0);
	while ($answers < 20)
	{
		my ($result, $error);
		if (IPC::Run::run([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'SELECT count(*) FROM pg_authid' ], '<', \undef, '>', \$result, '2>', \$error)) { $answers++ }
		elsif ($error !~ /starting up|not yet accepting|No such file|Connection refused|not accept/i) { push @failures, $error }
		die "it does not come up: @failures" if @failures > 20;
	}
	$starting->finish;
	$node->_update_pid(1);
	is_deeply(\@failures, [], "start $round: every connection is served");
}
$node->stop;
done_testing();
