# What can be wrong with a provider, at start and while the server runs: the message names the provider, the reason and the remedy,
# nothing is damaged, and it works again when it is put right. With the token gone the server itself goes on: only what needs the
# provider says so.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Crash;
use SealTest::Ledger;
use Test::More;

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
init_for_crashes($node, conf => 'pg_seal.provider_timeout = 4s');
$node->start;
$node->set_up_keys($token);
$node->make_tablespace('secure', sealed => 1);
my $ledger = SealTest::Ledger->new($node);
$ledger->make('early');
my $overrides = $node->basedir . '/overrides.json';
$token->write($overrides, '{}');
$node->append_conf('postgresql.conf', "pg_seal.provider_overrides_file = '$overrides'");

# --- at start ---
sub start_fails
{
	my ($what, $pattern, $break, $mend) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->stop;
	$break->();
	$node->start_fails_like(qr/FATAL:  could not unlock the keyrings: [^\n]*$pattern.*HINT:  \S/s, "start with $what: refused, with reason and hint");
	$mend->();
	$node->start;
	$ledger->holds("$what, put right");
	return;
}
my $write_pin = sub { $token->write($token->{pin_file}, $token->{pin}) };
start_fails('a wrong PIN', qr/'hsm'.*rejected the PIN/, sub { $token->write($token->{pin_file}, '999999999') }, $write_pin);
start_fails('no PIN file', qr/'hsm'.*No such file/, sub { unlink $token->{pin_file} }, $write_pin);
start_fails('a PIN file open to all', qr/'hsm'.*permissions/, sub { chmod 0644, $token->{pin_file} }, sub { chmod 0600, $token->{pin_file} });
start_fails('no token', qr/'hsm'.*token 'seal' is not present/, sub { $token->hide; mkdir "$token->{home}/tokens" },
	sub { rmdir "$token->{home}/tokens"; $token->show });
start_fails('nothing where the module keeps its tokens', qr/'hsm'.*(cannot be initialised|token 'seal' is not present)/, sub { $token->hide }, sub { $token->show });
start_fails('another token of the same label', qr/'hsm'.*key 'default'.* is not in token 'seal'/,
	sub { $token->hide; mkdir "$token->{home}/tokens"; $token->init_token('seal') },
	sub { rename "$token->{home}/tokens", "$token->{home}/other" or die; $token->show });
start_fails('no module', qr/'hsm'.*\/nowhere\/module\.so/, sub { $token->write($overrides, '{"hsm": {"module": "/nowhere/module.so"}}') },
	sub { $token->write($overrides, '{}') });
start_fails('a module that is none', qr/'hsm'.*libc\.so\.6/, sub { $token->write($overrides, '{"hsm": {"module": "/lib/x86_64-linux-gnu/libc.so.6"}}') },
	sub { $token->write($overrides, '{}') });
start_fails('a damaged overrides file', qr/overrides/, sub { $token->write($overrides, '{"hsm": ') }, sub { $token->write($overrides, '{}') });
start_fails('no pgseal command', qr/could not execute "\/nowhere\/pgseal"/,
	sub { $node->append_conf('postgresql.conf', q{pg_seal.pgseal_path = '/nowhere/pgseal'}) },
	sub { $node->append_conf('postgresql.conf', q{pg_seal.pgseal_path = ''}) });

# The KEK is destroyed and another of the same label and id stands in its place.
my ($id) = $node->safe_psql('postgres', q{SELECT kek_id FROM seal.keys WHERE key_type = 'KEK' AND keyring = 'default'});
my $copy = "$token->{home}/copy";
sub pkcs11_tool { $token->tool(@_) }
start_fails('a swapped KEK', qr/'hsm'.*(not the one|is not in token|does not verify)/,
	sub {
		system_or_bail('cp', '-a', "$token->{home}/tokens", $copy);
		pkcs11_tool('--delete-object', '--type', 'secrkey', '--id', $id);
		pkcs11_tool('--keygen', '--key-type', 'AES:32', '--label', 'default', '--id', $id, '--sensitive', '--usage-decrypt');
		is_deeply([ $token->objects ], ['default'], 'the token holds one key of that label');
	},
	sub { $token->hide; rename $copy, "$token->{home}/tokens" or die; });
system_or_bail('rm', '-rf', "$token->{home}/away");

# --- while the server runs: wrong definitions ---
my %wrong = (
	'no module' => [ $token->config(module => '/nowhere/module.so'), qr{/nowhere/module\.so} ],
	'no token' => [ $token->config(token => 'absent'), qr/token 'absent' is not present/ ],
	'wrong PIN' => [ $token->config(pin_file => "$token->{home}/wrong"), qr/rejected (the|this) PIN/ ]);
$token->write("$token->{home}/wrong", '999999999');
for my $what (sort keys %wrong)
{
	my ($config, $pattern) = @{ $wrong{$what} };
	my $name = sql_literal($what);
	my ($status, $out, $err) = $node->psql('postgres', "SELECT seal.add_provider($name, 'pkcs11', " . sql_literal($config) . ')');
	is($status, 0, "add_provider, $what: it is recorded, for a token may come later");
	like($err, qr/WARNING: .*"$what".*cannot be used now.*$pattern.*HINT: /s, 'with a warning that names the reason');
	like($node->safe_psql('postgres', "SELECT ok, detail FROM seal.check_provider($name)"), qr/^f\|.*$pattern/, 'check_provider tells the same');
	$node->fails_like('postgres', "SELECT seal.create_keyring('none', $name)", qr/ERROR: .*$pattern.*HINT: /s, 'create_keyring refuses with it');
	$node->safe_psql('postgres', "SELECT seal.drop_provider($name)");
}
for my $bad ('{}', '{"module": 5}', '{"module": "/x.so"}', '{"module": "/x.so", "token": "t", "pin": "1234"}', '{"module": "/x.so", "token": "t", "pin_file": "relative"}',
	'{"uri": "not a uri"}')
{
	$node->fails_like('postgres', "SELECT seal.add_provider('bad', 'pkcs11', " . sql_literal($bad) . ')', qr/ERROR: .*(configuration|URI)/, "malformed: $bad");
}
$node->fails_like('postgres', "SELECT seal.add_provider('bad', 'pkcs12', '{}')", qr/unknown provider kind/, 'unknown kind');
$node->fails_like('postgres', q{SELECT seal.drop_provider('hsm')}, qr/provider "hsm" is in use by keyring "default".*HINT: /s, 'a provider in use is not dropped');
$node->fails_like('postgres', q{SELECT seal.drop_keyring('default')}, qr/keyring "default" .*(in use|holds).*HINT: /s, 'a keyring in use is not dropped');
$node->fails_like('postgres', q{SELECT seal.drop_provider('hsm2')}, qr/provider "hsm2" does not exist/, 'one that is not there is named');
$node->fails_like('postgres', q{SELECT seal.create_keyring('default', 'hsm')}, qr/keyring "default" already exists/, 'a keyring is not created twice');
$node->fails_like('postgres', q{SELECT seal.create_keyring('adopted', 'hsm', kek => 'absent', create_kek => false)}, qr/key 'absent' is not in token.*HINT: /s,
	'a key to adopt must be there');
pkcs11_tool('--keygen', '--key-type', 'AES:32', '--label', 'loose', '--id', '77', '--extractable');
$node->fails_like('postgres', q{SELECT seal.create_keyring('adopted', 'hsm', kek => 'loose', create_kek => false)}, qr/is (extractable|not sensitive).*HINT: /s,
	'an extractable key is not adopted');
# Pointing the provider at a token without the keys, or with others, is refused: the server would not start again.
my $other = SealTest::Token->new(label => 'seal');
$node->fails_like('postgres', q{SELECT seal.alter_provider('hsm', } . sql_literal($other->config) . ')', qr/key 'default'.*is not in token|not the one/,
	'alter_provider does not point at a token without the KEK');
$node->restart;
$ledger->holds('after refused calls');

# --- the token disappears while the server runs ---
my $postmaster = $node->{_pid};
kill 'KILL', $node->agent_pids;    # a session that is open already may outlive the directory
$token->hide;
mkdir "$token->{home}/tokens";
like($node->safe_psql('postgres', q{SELECT ok, detail FROM seal.check_provider('hsm')}), qr/^f\|.*token 'seal' is not present/, 'check_provider notices');
$node->fails_like('postgres', q{SELECT seal.create_keyring('none', 'hsm')}, qr/token 'seal' is not present.*HINT: /s, 'create_keyring says what is missing');
$node->fails_like('postgres', q{SELECT seal.rotate_kek('default')}, qr/token 'seal' is not present.*HINT: /s, 'rotate_kek too');
$ledger->holds('without the token');
$ledger->make('without_token');
$node->safe_psql('postgres', q{UPDATE early SET note = note; CHECKPOINT; VACUUM FULL early; CHECKPOINT});
my $session = $node->background_psql('postgres', on_error_stop => 0);
my $backend = $session->query('SELECT pg_backend_pid()');
my $offset = -s $node->logfile;
kill 'KILL', $backend;
wait_until_up($node, $offset);
eval { $session->quit };
$ledger->make('after_backend_crash');
$ledger->holds('a crashed backend, without the token');
is($node->is_sealed_on_disk('postgres', 'after_backend_crash'), 1, 'sealed');
is($node->{_pid}, $postmaster, 'the server is the same');
is($node->safe_psql('postgres', q{SELECT kek_version FROM seal.keyrings WHERE keyring = 'default'}), '1', 'nothing was changed by the calls that failed');
rmdir "$token->{home}/tokens";
$token->show;
ok($node->poll_query_until('postgres', q{SELECT bool_and(ok) FROM seal.check_provider('hsm')}), 'the token is back: check_provider is content');
is($node->safe_psql('postgres', q{SELECT seal.rotate_kek('default')}), '1', 'rotate_kek works again');

# --- the agent dies, or hangs ---
$offset = -s $node->logfile;
for my $round (1 .. 3)
{
	my @agents = $node->agent_pids;
	is(scalar @agents, 1, "round $round: one agent runs");
	kill 'KILL', @agents;
	$ledger->make("agent_died_$round");
	is($node->safe_psql('postgres', q{SELECT bool_and(ok) FROM seal.check_provider('hsm')}), 't', "round $round: the next call finds an agent");
}
my ($agent) = $node->agent_pids;
kill 'STOP', $agent;
like($node->safe_psql('postgres', q{SELECT ok, detail FROM seal.check_provider('hsm')}), qr/^f\|.*(time|answer)/i, 'a hung agent: the call ends at its deadline');
$ledger->make('agent_hung');
ok($node->poll_query_until('postgres', q{SELECT bool_and(ok) FROM seal.check_provider('hsm')}), 'and a new agent is there');
ok(!SealTest::is_alive($agent), 'the hung one was ended');
unlike(slurp_file($node->logfile, $offset), qr/terminating any other active server processes|PANIC/, 'the server did not notice');
$node->restart;
$ledger->holds('at the end');
$node->stop;
done_testing();
