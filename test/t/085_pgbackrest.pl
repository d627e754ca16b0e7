# pgBackRest, as it comes and without any wrapper, backs up a sealed cluster (catalogs, data, WAL) with its page checks on, pushes and gets sealed segments, and restores: full,
# differential, and to a point in time. Nothing planted lies in clear in the repository, which is not compressed so that this says something.
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Canary;
use SealTest::Wal;
use Test::More;

my $text = canary('backrest');
my $token = SealTest::Token->new;
my $home = PostgreSQL::Test::Utils::tempdir_short();
mkdir "$home/$_" or die "$home/$_: $!" for qw(repo log spool lock);
my $conf = "$home/pgbackrest.conf";

my $node = SealTest->new('primary');
$node->init_seal(checksums => 1, allows_streaming => 1, conf => "wal_keep_size = 0\n");
$node->append_conf('postgresql.conf', "archive_mode = on\narchive_command = 'pgbackrest --config=$conf --stanza=main archive-push %p'\narchive_timeout = 0\n");
$token->write($conf, join "\n", '[global]', "repo1-path=$home/repo", "log-path=$home/log", "spool-path=$home/spool", "lock-path=$home/lock", 'compress-type=none', 'log-level-console=warn', 'log-level-file=detail',
	'checksum-page=y', 'start-fast=y', 'repo1-retention-full=2', 'archive-timeout=120', 'process-max=2', '[main]', 'pg1-path=' . $node->data_dir, 'pg1-port=' . $node->port, 'pg1-socket-path=' . $node->host,
	"pg1-database=postgres\n");

sub backrest
{
	my ($name, @words) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($out, $err) = ('', '');
	my $done = IPC::Run::run([ 'pgbackrest', "--config=$conf", '--stanza=main', @words ], '<', \undef, '>', \$out, '2>', \$err);
	ok($done, $name) or diag "$out$err";
	unlike("$out$err", qr/WARN.*(?:checksum|page)/, "$name: no complaint about pages");
	return $out;
}

$node->start;
$node->set_up_keys($token);
enable_wal($node);
$node->safe_psql('postgres', "SELECT seal.encrypt_tablespace('$_')") for qw(pg_global pg_default);
my $store = $node->make_tablespace('store', sealed => 1);
backrest('stanza-create', 'stanza-create');
backrest('check: a segment is pushed and found', 'check');
$node->safe_psql('postgres', "CREATE TABLE t TABLESPACE store AS SELECT g, '$text ' || g AS t FROM generate_series(1, 20000) g; CREATE INDEX t_i ON t (t); CREATE TABLE $text (x int)");
backrest('a full backup', 'backup', '--type=full');
$node->safe_psql('postgres', "INSERT INTO t SELECT g, '$text ' || g FROM generate_series(20001, 25000) g; SELECT seal.rotate_wal_key()");
backrest('a differential backup after the WAL key changed', 'backup', '--type=diff');
$node->safe_psql('postgres', "INSERT INTO t SELECT g, '$text ' || g FROM generate_series(25001, 27000) g");
my $point = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
my $digest = q{SELECT count(*), sum(g), md5(string_agg(t, ',' ORDER BY g)) FROM t};
my $then = $node->safe_psql('postgres', $digest);
my $segment = $node->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_insert_lsn())');
$node->safe_psql('postgres', "INSERT INTO t SELECT g, '$text ' || g FROM generate_series(27001, 28000) g; SELECT pg_switch_wal()");
my $now = $node->safe_psql('postgres', $digest);
$node->poll_query_until('postgres', "SELECT last_archived_wal >= '$segment' FROM pg_stat_archiver") or die 'the archiver does not get there';
like(backrest('info', 'info'), qr/status: ok/, 'it says that all is well');
like(backrest('verify', 'verify', '--output=text', '--verbose'), qr/status: ok/, 'and after reading all of it again, too');
$node->stop;

my $found = SealTest::Canary::Found->new;
$found->search('repository', "$home/repo", flat => 1);
is(join(', ', $found->all), '', 'nothing planted lies in clear in the repository');
cmp_ok($found->bytes('repository'), '>', 30_000_000, 'in which there is much');
my @pushed = wal_segments_below("$home/repo/archive");
my $count = count_wal_marks(@pushed[ 1 .. $#pushed ]);
cmp_ok($count->{sealed}, '>', 100, 'pushed segments are sealed');
is($count->{plain}, 0, 'every page of them');

# Its names end with a checksum.
sub wal_segments_below
{
	my ($directory) = @_;
	return sort grep { m{/[0-9A-F]{24}-[0-9a-f]{40}$} } glob "$directory/*/*/*/*";
}

sub restored
{
	my ($name, $expected, @words) = @_;
	my $copy = SealTest->new($name);
	mkdir $copy->basedir;
	mkdir "$store.$name";
	backrest("restore, $name", 'restore', '--pg1-path=' . $copy->data_dir, "--tablespace-map=store=$store.$name", @words);
	$copy->append_conf('postgresql.conf', 'port = ' . $copy->port . "\nunix_socket_directories = '" . $copy->host . "'\narchive_mode = off\n");
	$copy->start;
	$copy->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'recovery does not end';
	is($copy->safe_psql('postgres', $digest), $expected, "$name: the rows of that moment");
	is($copy->is_sealed_on_disk('postgres', 't'), 1, "$name: sealed");
	is_sealed_wal($copy, "$name: WAL is sealed");
	$copy->stop;
	return;
}
restored('to_the_end', $now, '--type=default');
restored('to_a_point', $then, '--type=lsn', "--target=$point", '--target-action=promote');
done_testing();
