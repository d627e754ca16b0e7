# KEK rotation: as often as wanted, in any order with restarts and crashes, everything stays readable; the token keeps every version;
# no data page and no key file is touched.
use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
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
$node->make_tablespace('secure', sealed => 1);
my $ledger = SealTest::Ledger->new($node);
$ledger->make('original');
$node->safe_psql('postgres', 'VACUUM FREEZE original');    # reading sets no more hint bits
$node->safe_psql('postgres', 'CHECKPOINT');
my @files = (key_file_of($node, 'postgres'), $node->relation_files('postgres', 'original'));
my %bytes = map { $_ => md5_hex(SealTest::slurp_raw($_)) } @files;

for my $version (2 .. 6)
{
	is($node->safe_psql('postgres', q{SELECT seal.rotate_kek('default')}), '1', "rotation to version $version rewraps one key");
	is($node->safe_psql('postgres', q{SELECT kek_version FROM seal.keyrings WHERE keyring = 'default'}), $version, 'seal.keyrings shows it');
	$version % 2 ? $node->restart : do { $node->crash; $node->start };
	$ledger->holds("version $version, after a " . ($version % 2 ? 'restart' : 'crash'));
}
$node->safe_psql('postgres', 'CHECKPOINT');
is_deeply({ map { $_ => md5_hex(SealTest::slurp_raw($_)) } @files }, \%bytes, 'no byte of the key file or of the table was changed by five rotations');
is(scalar(grep { $_ eq 'default' } $token->objects), 6, 'the token holds six versions of the key');
is($node->safe_psql('postgres', q{SELECT count(*) || ' ' || count(*) FILTER (WHERE state = 'active') FROM seal.keys WHERE key_type = 'KEK' AND keyring = 'default'}),
	'6 1', 'seal.keys lists six, one of them active');

# --- while sessions work and others rotate ---
my @clients = map { $node->background_psql('postgres') } 1 .. 2;
my $batch = join '', map { "CREATE TABLE busy_\%d_$_ TABLESPACE secure AS SELECT $_ AS x; SELECT x FROM busy_\%d_$_;" } 1 .. 20;
my $error = '';
for my $turn (1 .. 3)
{
	for my $i (0, 1)
	{
		my ($out, $failed) = $clients[$i]->query($i ? "SELECT seal.rotate_kek('default')" : $batch =~ s/%d/$turn/gr);
		$error .= $clients[$i]->{stderr} || '';
	}
}
$_->quit for @clients;
is($error, '', 'rotation beside sessions that make tables');
my ($turn_one, $turn_two) = (IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', q{SELECT seal.rotate_kek('default')} ], '>', \my $out1, '2>', \my $err1),
	IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', q{SELECT seal.rotate_kek('default')} ], '>', \my $out2, '2>', \my $err2));
$_->finish for $turn_one, $turn_two;
like("$out1$err1|$out2$err2", qr/1/, 'two rotations at once: at least one is done') or diag("$err1 $err2");
$node->restart;
$ledger->holds('after rotations beside other work');

# --- the server dies in the middle ---
for my $step ('registry.before_insert', 'registry.after_flush')
{
	die_at($node, $step, q{SELECT seal.rotate_kek('default')}, power => 1);
	$node->start;
	$ledger->holds("$step: died in a rotation");
	is($node->safe_psql('postgres', q{SELECT seal.rotate_kek('default')}), '1', "$step: it can be repeated");
}
# ... and the agent, while it works
my $psql = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', q{SELECT seal.rotate_kek('default') FROM generate_series(1, 30)} ], '>', \my $out, '2>', \my $err);
select undef, undef, undef, 0.3;
my @agents = $node->agent_pids;
is(scalar @agents, 1, 'one agent runs');
kill 'KILL', @agents;
$psql->finish;
ok($node->poll_query_until('postgres', q{SELECT bool_and(ok) FROM seal.check_provider('hsm')}), 'the agent is back');
$node->safe_psql('postgres', q{SELECT seal.rotate_kek('default')});
$node->restart;
$ledger->make('last');
$ledger->holds('after an agent that died in a rotation');
$node->stop;
done_testing();
