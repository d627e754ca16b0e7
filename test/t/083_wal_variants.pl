# Sealed WAL under every setting that changes how WAL is written: full_page_writes off, wal_compression (every method of this server), neither zeroing nor recycling, each
# wal_sync_method (with wal_level = minimal and max_wal_senders = 0, where O_DIRECT is used), segments of 1 MB and 64 MB. For each: load, kill -9 amid it, recovery, equal sums,
# every committed row there, no planted text in pg_wal, and pg_waldump (by pgseal exec) reads it from the last checkpoint to the end.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Canary;
use SealTest::Load;
use SealTest::Wal;
use Test::More;
use Time::HiRes qw(usleep);

my $text = canary('variant');

# One round on a running node; it runs again afterwards.
sub round
{
	my ($node, $what, $number) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $load = SealTest::Load->new($node);
	$load->run(undef, clients => 3);
	$load->run("INSERT INTO words SELECT g, '$text ' || g FROM generate_series(1, 40) g;\nUPDATE words SET word = word || '.' WHERE id = :client_id + 1;\n", name => 'words');
	usleep(700_000);
	$node->safe_psql('postgres', "INSERT INTO kept VALUES ($number, '$text kept $number')");
	my $at = $node->safe_psql('postgres', q{SELECT checkpoint_lsn, redo_lsn FROM pg_control_checkpoint()});
	$node->crash;
	$load->died_with_server("$what: the load met no error");
	my $found = SealTest::Canary::Found->new;
	$found->search('wal', $node->data_dir . '/pg_wal', flat => 1);
	is(join(', ', $found->paths('variant')), '', "$what: no planted text in pg_wal");
	my ($out, $err) = ('', '');
	my (undef, $redo) = split /\|/, $at;
	IPC::Run::run([ 'pgseal', 'exec', '--', 'pg_waldump', '-p', $node->data_dir . '/pg_wal', '-s', $redo ], '<', \undef, '>', \$out, '2>', \$err);
	my $records = () = $out =~ /^rmgr: /mg;
	cmp_ok($records, '>', 100, "$what: pg_waldump reads $records records");
	like($err, qr/^(?:pg_waldump: error: error in WAL record at [^\n]*: (?:invalid record length|record with incorrect prev-link|invalid resource manager ID|unexpected pageaddr|invalid info bits|invalid magic number 0000|could not find|there is no contrecord|incorrect resource manager data checksum|contrecord is requested|invalid contrecord length)[^\n]*\n?|pg_waldump: error: could not find file [^\n]*\n?)?$/,
		"$what: and ends where WAL ends");
	$node->start;
	sums_are_equal($node, "$what: the sums are equal");
	is($node->safe_psql('postgres', "SELECT count(*), bool_and(word = '$text kept ' || id) FROM kept"), "$number|t", "$what: what was committed is there");
	is_sealed_wal($node, "$what: WAL is sealed");
	return;
}

sub make_node
{
	my ($name, $segment, $conf, %params) = @_;
	my $node = SealTest->new($name);
	$node->init_seal(checksums => 1, extra => ["--wal-segsize=$segment"], conf => join("\n", 'max_wal_size = 64MB', 'min_wal_size = ' . ($segment < 32 ? '32MB' : '128MB'), 'fsync = on', 'checkpoint_timeout = 30s', $conf) . "\n", %params);
	$node->append_conf('postgresql.conf', 'max_wal_size = 256MB') if $segment > 16;
	$node->start;
	$node->set_up_keys(SealTest::Token->new);
	enable_wal($node);
	$node->safe_psql('postgres', 'CREATE TABLE words (id int, word text); CREATE TABLE kept (id int, word text)');
	$node->command_ok([ 'pgbench', '-i', '-q', '-s', 1, '-h', $node->host, '-p', $node->port, 'postgres' ], "$name: the benchmark");
	return $node;
}

# One server, one set of settings after the other.
sub run_variants
{
	my ($node, @variants) = @_;
	my $number = 0;
	for my $variant (@variants)
	{
		$node->safe_psql('postgres', 'ALTER SYSTEM RESET ALL');
		$node->safe_psql('postgres', "ALTER SYSTEM SET $_") for @$variant;
		$node->restart;
		round($node, join(', ', $node->name, @$variant), ++$number);
	}
	$node->stop;
	return;
}

my $small = make_node('small', 1, "wal_level = replica\nmax_wal_senders = 2");
my ($methods) = $small->safe_psql('postgres', q{SELECT enumvals FROM pg_settings WHERE name = 'wal_compression'}) =~ /^\{(.*)\}$/;
run_variants($small, ['full_page_writes = off'], (map { ["wal_compression = $_"] } grep { $_ ne 'off' } split /,/, $methods), [ 'wal_init_zero = off', 'wal_recycle = off' ], ['commit_delay = 1000'],
	['wal_buffers = 8']);

# wal_level minimal: nobody but the server reads WAL, so open_sync and open_datasync pass by the system's cache.
my $direct = make_node('direct', 1, "wal_level = minimal\nmax_wal_senders = 0\narchive_mode = off");
my ($sync) = $direct->safe_psql('postgres', q{SELECT enumvals FROM pg_settings WHERE name = 'wal_sync_method'}) =~ /^\{(.*)\}$/;
run_variants($direct, map { ["wal_sync_method = $_"] } split /,/, $sync);

run_variants(make_node('large', 64, "wal_level = logical\nmax_wal_senders = 2"), ['wal_sync_method = open_datasync'], [ 'full_page_writes = off', 'wal_compression = on', 'wal_recycle = off' ]);
done_testing();
