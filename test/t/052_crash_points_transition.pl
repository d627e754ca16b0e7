# The server dies at every step of a transition, in both directions: it recovers with every row, the operation goes on by itself, and everything is
# in its new form at the end.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Convert;
use SealTest::KeyFile;
use Test::More;

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
$node->init_seal(checksums => 1, conf => "wal_level = minimal\nmax_wal_senders = 0\nrestart_after_crash = off\n");
$node->start;
$node->set_up_keys($token);
$node->make_tablespace('store');
$node->safe_psql('postgres', q{
	CREATE EXTENSION amcheck;
	CREATE TABLE kept TABLESPACE store AS SELECT g AS id, md5(g::text) AS note FROM generate_series(1, 20000) g;
	CREATE INDEX kept_id ON kept (id) TABLESPACE store;
	CREATE INDEX kept_hash ON kept USING hash (note) TABLESPACE store;
	CREATE UNLOGGED TABLE passing TABLESPACE store AS SELECT g AS id FROM generate_series(1, 1000) g;
	CREATE UNLOGGED TABLE passing_empty (id int PRIMARY KEY USING INDEX TABLESPACE store) TABLESPACE store;
	VACUUM kept});
my $digest = 'SELECT count(*), sum(id), md5(string_agg(note, $$,$$ ORDER BY id)) FROM kept';
my $rows = $node->safe_psql('postgres', $digest);

my @steps = ('transition.announced', 'transition.active', 'transition.finished', 'keymap.before_insert', 'keymap.after_insert', 'keymap.after_insert:3',
	'keymap.after_flush', 'keymap.after_flush:2', 'keymap.before_publish:2', 'keymap.after_publish:2');
my @ways = ('encrypt', 'decrypt');
my %is = (encrypt => 'sealed', decrypt => 'plain');
for my $step (@steps)
{
	my $way = $ways[0];
	@ways = reverse @ways;
	# Only the worker shall die: it reads the setting when it starts, and the rest of us come and go without touching a key.
	$node->safe_psql('postgres', "ALTER DATABASE postgres SET pg_seal.debug_crash_point = '$step'");
	eval { begin_convert($node, $way, 'store') };
	wait_until(sub { !SealTest::is_alive($node->{_pid}) }, "the server dies at $step");
	SealTest::await_end($node->{_pid});
	$node->{_pid} = undef;
	# The setting goes in single-user mode, with the conversion where it is.
	$node->command_ok([ 'bash', '-c', q{echo "ALTER DATABASE postgres RESET pg_seal.debug_crash_point" | postgres --single -D "$0" template1}, $node->data_dir ],
		"$step, $way: single-user mode starts in the middle");
	$node->start;
	is($node->safe_psql('postgres', $digest), $rows, "$step, $way: every row is there");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM passing'), '0', "$step, $way: the unlogged table is empty and readable");
	$node->safe_psql('postgres', 'INSERT INTO passing SELECT generate_series(1, 1000); INSERT INTO passing_empty SELECT generate_series(1, 10)');
	wait_until(sub { $node->safe_psql('postgres', q{SELECT count(*) FROM seal.operations WHERE state IN ('pending', 'running')}) eq '0' }, 'the operation ends');
	tablespace_is($node, 'store', $is{$way}, "$step, $way: everything is $is{$way} in the end", checkpoint => 1, claimed => 1);
	is($node->safe_psql('postgres', $digest), $rows, "$step, $way: every row is still there");
	my ($status, $out, $err) = $node->psql('postgres', q{SELECT count(*) FROM verify_heapam('kept'); SELECT bt_index_check('kept_id', true)});
	is("$status|$out|$err", "0|0\n|", "$step, $way: amcheck finds nothing");
	is_deeply([ whole_pages($node) ], [], "$step, $way: key files are whole");
}
$node->stop;
$node->command_ok([ 'pg_checksums', '--check', '-D', $node->data_dir ], 'pg_checksums passes');
done_testing();
