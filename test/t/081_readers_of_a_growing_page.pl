# Sealed WAL pages are rewritten as they fill, as fast as many tiny commits can, while the server's own readers are at them: walsenders to a standby, to pg_receivewal
# and to a logical decoder, and pg_walinspect. None of them ever sees a wrong byte: what pg_receivewal wrote in clear is, byte for byte, what a decryptor of
# its own (test/decrypt_wal.py) makes of the primary's sealed segments; the standby's and the subscriber's rows are the primary's. SEAL_RACE_SECONDS.
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Load;
use SealTest::Wal;
use Test::More;
use Time::HiRes qw(time);

my $seconds = $ENV{SEAL_RACE_SECONDS} || 8;
my $token = SealTest::Token->new;
my $kek = join '', map { chr(33 + int rand 220) } 1 .. 32;    # softhsm2-util takes a file up to a zero byte or a line's end
$token->import_key('known', $kek);

my $node = SealTest->new('primary');
$node->init_seal(checksums => 1, allows_streaming => 'logical', extra => ['--wal-segsize=1'], conf => join("\n", 'synchronous_commit = on', 'wal_writer_delay = 1ms', 'wal_writer_flush_after = 0', 'commit_delay = 0',
		'wal_keep_size = 2GB', 'max_wal_size = 4GB', "checkpoint_timeout = 1h\n"));
$node->start;
$node->set_up_keys($token);
$node->safe_psql('postgres', q{SELECT seal.create_keyring('adopted', 'hsm', kek => 'known', create_kek => false)});
enable_wal($node, 'adopted');
my $standby = SealTest->new('standby');
$node->backup('taken', backup_options => [ '-X', 'fetch' ]);
$standby->init_from_backup($node, 'taken', has_streaming => 1);
$standby->start;

$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_walinspect;
	CREATE TABLE t (id bigserial PRIMARY KEY, client int, x text);
	SELECT pg_create_logical_replication_slot('rows', 'test_decoding');
	SELECT pg_create_physical_replication_slot('received', true);
});
my $begin = $node->safe_psql('postgres', 'SELECT pg_walfile_name(pg_switch_wal() + 1)');
my $first = $node->safe_psql('postgres', 'SELECT pg_current_wal_lsn()');
my $received = $node->basedir . '/received';
my $decoded = $node->basedir . '/decoded';
mkdir $received;
my @said = ('', '', '');
my @tools = (
	IPC::Run::start([ 'pg_receivewal', '-D', $received, '-d', $node->connstr('postgres'), '-S', 'received', '--no-loop', '--no-sync' ], '<', \undef, '>', '/dev/null', '2>', \$said[0]),
	IPC::Run::start([ 'pg_recvlogical', '-d', $node->connstr('postgres'), '-S', 'rows', '--start', '--no-loop', '-f', $decoded, '-F', '1', '-o', 'include-xids=0' ], '<', \undef, '>', '/dev/null', '2>', \$said[1]));

my $load = SealTest::Load->new($node);
$load->run("\\set n random(1, 90)\nINSERT INTO t (client, x) VALUES (:client_id, repeat('x', :n));\n", clients => 6, options => [ '-j', '2' ], name => 'tiny commits');
$load->run("SELECT count(*), sum(record_length) FROM pg_get_wal_records_info_till_end_of_wal(greatest('$first', pg_current_wal_flush_lsn() - 60000));\n", name => 'pg_walinspect', settings => '-c application_name=inspector');
my $until = time + $seconds;
$node->safe_psql('postgres', 'SELECT pg_sleep(1)') while time < $until;
$load->stop_without_errors('pg_walinspect and the writers met no error');

my $end = $node->safe_psql('postgres', q{SELECT pg_logical_emit_message(true, 'end', 'end')});
$node->wait_for_catchup($standby);
my $rows = $node->safe_psql('postgres', 'SELECT count(*) FROM t');
cmp_ok($rows, '>', 100 * $seconds, 'there were many commits');
my $digest = 'SELECT count(*), md5(string_agg(id || client::text || x, $$,$$ ORDER BY id)) FROM t';
is($standby->safe_psql('postgres', $digest), $node->safe_psql('postgres', $digest), 'the standby has the rows of the primary');

# The last segment is completed, so that pg_receivewal gives it its name.
my $last = $node->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_lsn())');
$node->safe_psql('postgres', q{SELECT pg_switch_wal(); SELECT pg_logical_emit_message(true, 'after', 'the end')});
SealTest::Wal::wait_for(sub { -f "$received/$last" }, "$last is received");
my $reached = $node->safe_psql('postgres', 'SELECT pg_current_wal_lsn()');
$node->poll_query_until('postgres', "SELECT confirmed_flush_lsn >= '$reached' FROM pg_replication_slots WHERE slot_name = 'rows'") or diag $said[1];
for my $tool (@tools) { $tool->signal('INT'); eval { $tool->finish } }
unlike("@said", qr{invalid|incorrect|could not (?!send)|PANIC|ERROR}, 'the receivers met no error');
is(scalar(grep { /^table public\.t: INSERT/ } split /\n/, SealTest::slurp_raw($decoded)), $rows, 'each row was decoded');

my ($segments, $sealed, @different) = (0, 0);
for my $file (wal_segments($node->data_dir . '/pg_wal'))
{
	my ($name) = $file =~ m{([^/]+)$};
	next if $name lt $begin || $name gt $last;
	my $opened = $node->basedir . '/opened';
	my $count = open_segment($node, $kek, $file, $opened);
	$sealed += $count->{sealed};
	push @different, "$name: $count->{plain} plain, $count->{foreign} foreign pages" if $count->{plain} || $count->{foreign};
	push @different, $name if SealTest::slurp_raw($opened) ne SealTest::slurp_raw("$received/$name");
	$segments++;
}
note "$rows commits, $segments segments, $sealed sealed pages";
cmp_ok($sealed, '>', 100, 'sealed pages were compared');
is_deeply(\@different, [], 'each segment: what pg_receivewal wrote is what an independent decryptor reads in the sealed one');
$standby->stop;
$node->stop;
done_testing();
