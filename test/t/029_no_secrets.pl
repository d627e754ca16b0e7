# No secret in clear where it does not belong: the PIN, a KEK of known value and sealed text are in no file, no log, no command
# line, no view and no error message; the mapping with the unlocked keys is locked in memory and left out of core dumps.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use Test::More;

my $token = SealTest::Token->new;
my $kek = join '', map { chr(33 + int rand 220) } 1 .. 32;    # softhsm2-util takes a file up to a zero byte or a line's end
$token->import_key('known', $kek);
my $node = SealTest->new('primary');
$node->init_seal(checksums => 1, conf => "log_min_messages = debug1\nlog_connections = on\nlog_error_verbosity = verbose");
$node->start;
$node->set_up_keys($token);
$node->safe_psql('postgres', q{SELECT seal.create_keyring('adopted', 'hsm', kek => 'known', create_kek => false)});
$node->make_tablespace('secure', sealed => 'adopted');
my $text = 'canary-' . join '', map { chr(97 + int rand 26) } 1 .. 20;
$node->safe_psql('postgres', qq{
	CREATE TABLE secret (id int, x text, y text, PRIMARY KEY (id) USING INDEX TABLESPACE secure) TABLESPACE secure;
	ALTER TABLE secret ALTER y SET STORAGE EXTERNAL;
	INSERT INTO secret SELECT g, '$text', repeat('$text', 200) FROM generate_series(1, 50) g;
	CREATE INDEX ON secret (x) TABLESPACE secure;
	CREATE INDEX ON secret USING gin (to_tsvector('simple', x)) TABLESPACE secure;
	CREATE SEQUENCE counter;
	CREATE MATERIALIZED VIEW seen TABLESPACE secure AS SELECT * FROM secret;
	CREATE UNLOGGED TABLE loose TABLESPACE secure AS SELECT * FROM secret;
	SELECT seal.rotate_kek('default');
});

# --- errors, with everything logged ---
my @said;
for my $sql ('SELECT seal.create_keyring(\'default\', \'hsm\')', 'SELECT seal.drop_provider(\'hsm\')', 'SELECT seal.rotate_kek(\'absent\')',
	"SELECT seal.add_provider('again', 'pkcs11', " . sql_literal($token->config(token => 'absent')) . ')',
	'SELECT * FROM seal.check_provider(\'again\')', 'SELECT seal.drop_provider(\'again\')')
{
	push @said, join "\n", $node->psql('postgres', $sql);
}
for my $view (qw(providers keyrings keys tablespaces relations audit_log health))
{
	push @said, $node->safe_psql('postgres', "SELECT * FROM seal.$view");
}
$node->restart;
$node->crash;
my $pin = $token->{pin};
$token->write($token->{pin_file}, '99999' . $pin);
$node->start_fails_like(qr/rejected the PIN/, 'a start with a wrong PIN');
$token->write($token->{pin_file}, $pin);
$node->start;

my %secrets = ('the PIN' => $pin, 'the KEK' => $kek, 'the KEK in hex' => unpack('H*', $kek), 'the KEK in upper-case hex' => uc unpack('H*', $kek));
my $log = slurp_file($node->logfile);
for my $name (sort keys %secrets)
{
	is(index($log, $secrets{$name}), -1, "$name is not in the server's log");
	is_deeply([ $node->files_with($secrets{$name}, wal => 1) ], [], "$name is in no file of the data directory or its tablespaces");
	is(scalar(grep { index($_, $secrets{$name}) >= 0 } @said), 0, "$name is in no message and no view");
}

# --- processes ---
my @processes = ($node->{_pid}, SealTest::children_of($node->{_pid}));
cmp_ok(scalar $node->agent_pids, '==', 1, 'the agent runs');
for my $kind ('cmdline', 'environ')
{
	my $all = join '', map { SealTest::slurp_raw("/proc/$_/$kind") } @processes;
	isnt($all, '', "$kind of " . @processes . ' processes');
	is(index($all, $_), -1, "no secret in $kind") for values %secrets;
}

# --- sealed text ---
my %sealed = map { substr($_, 1 + length $node->data_dir) => 1 } map { $node->relation_files('postgres', $_) } split /\n/,
  $node->safe_psql('postgres', q{SELECT c.oid::regclass FROM pg_class c JOIN pg_tablespace t ON t.oid = reltablespace WHERE spcname = 'secure'});
cmp_ok(scalar keys %sealed, '>', 10, 'files in the sealed tablespace');
my @found = $node->files_with($text);
is_deeply([ grep { $sealed{$_} || m{pg_tblspc|pg_seal} } @found ], [], 'sealed text is in no file of the tablespace and not in pg_seal/');
is(index($log, $text), -1, 'nor in the log');

# --- the vault's mapping ---
sub mappings
{
	my ($pid) = @_;
	my ($head, @found);
	for my $line (split /\n/, SealTest::slurp_raw("/proc/$pid/smaps"))
	{
		if ($line =~ /^[0-9a-f]+-[0-9a-f]+ (\S+) .*?(\S*)$/) { $head = { mode => $1, line => $line } }
		elsif ($line =~ /^Size: +(\d+)/) { $head->{size} = $1 }
		elsif ($line =~ /^VmFlags: (.*)/) { $head->{flags} = " $1 "; push @found, $head }
	}
	return @found;
}
my @vault = grep { $_->{mode} =~ /^rw.s/ && $_->{flags} =~ / dd / } mappings($node->{_pid});
is(scalar @vault, 1, 'the postmaster has one shared mapping that is left out of core dumps');
like($vault[0]{flags}, qr/ lo /, 'it is locked in memory');
cmp_ok($vault[0]{size}, '>=', 1024, 'it is the one with the keys');
my $session = $node->background_psql('postgres');
my $backend = $session->query('SELECT pg_backend_pid()');
my ($range) = $vault[0]{line} =~ /^(\S+)/;
my ($same) = grep { index($_->{line}, "$range ") == 0 } mappings($backend);
like($same->{flags}, qr/ dd /, 'a backend leaves it out of core dumps too');
is($node->safe_psql('postgres', q{SELECT count(*) FROM seal.health WHERE check_name ILIKE '%memory%' AND status = 'ok'}) > 0 ? 1 : 0, 1, 'seal.health says that keys are locked in memory')
  or diag($node->safe_psql('postgres', 'SELECT * FROM seal.health'));
$session->quit;

# --- files of the extension are for the server's user alone ---
my @open = grep { ((stat $_)[2] & 0077) != 0 } glob($node->data_dir . '/pg_seal/*'), glob($node->data_dir . '/pg_seal/audit/*'), $node->data_dir . '/pg_seal';
is_deeply(\@open, [], 'nobody else can read pg_seal/');
$node->stop;
done_testing();
