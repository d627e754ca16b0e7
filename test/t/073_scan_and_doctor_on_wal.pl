# pgseal scan and pgseal doctor tell of WAL in clear: in pg_wal, in an archive, and of segments whose key is not there.
use strict;
use warnings;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Tools;
use SealTest::Wal;
use Test::More;

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
$node->init_seal(checksums => 1, allows_streaming => 1, has_archiving => 1, extra => ['--wal-segsize=1']);
$node->start;
$node->set_up_keys($token);
$node->make_tablespace('secure', sealed => 1);

sub load_and_archive
{
	$node->safe_psql('postgres', 'CREATE TABLE IF NOT EXISTS t (x text) TABLESPACE secure; INSERT INTO t SELECT md5(g::text) FROM generate_series(1, 20000) g');
	my $segment = $node->safe_psql('postgres', 'SELECT pg_walfile_name(pg_switch_wal())');
	$node->poll_query_until('postgres', "SELECT last_archived_wal >= '$segment' FROM pg_stat_archiver") or die 'nothing is archived';
	return;
}
sub scan
{
	my (@options) = @_;
	my ($status, $out, $err) = run_tool('pgseal', 'scan', '--json', @options);
	return ($status, $status > 1 ? $err : decode_json($out));
}
sub doctor
{
	my (@options) = @_;
	my ($status, $out) = run_tool('pgseal', 'doctor', '-D', $node->data_dir, @options);
	return $out;
}

load_and_archive();
my ($status, $found) = scan('--online', $node->data_dir);
is($status, 0, 'WAL in clear is no finding of scan');
ok($found->{wal}[0]{segments_in_clear} > 0 && !%{ $found->{wal}[0]{sealed_by_generation} }, 'but it is counted');
like(doctor(), qr/^warning\s+WAL\s+WAL is written in clear/m, 'doctor warns of it');

enable_wal($node);
load_and_archive();
$node->safe_psql('postgres', 'SELECT seal.rotate_wal_key()');
load_and_archive();
my $was = $found->{wal}[0]{segments_in_clear};
($status, $found) = scan('--online', '--wal', $node->archive_dir, $node->data_dir);
is($status, 0, 'sealed WAL is as expected, while the server runs');
is($found->{wal}[1]{directory}, $node->archive_dir, 'the archive is looked at');
is_deeply([ sort keys %{ $found->{wal}[1]{sealed_by_generation} } ], [ 1, 2 ], 'generations are told apart');
ok($found->{wal}[1]{segments_in_clear} > 0, 'segments archived before are in clear');
like(doctor('--archive', $node->archive_dir), qr/^warning\s+WAL\s+\d+ of \d+ segments in "[^"]*archives" hold WAL in clear/m, 'doctor warns of them');
like(doctor(), qr/^ok\s+WAL\s+WAL is sealed with generation 2/m, 'and says that WAL is sealed');
unlike(doctor(), qr/libseal_preload/, 'the preload library is there');

$node->safe_psql('postgres', 'SELECT seal.rotate_wal_key()');
load_and_archive();
$node->stop;
($status, $found) = scan($node->data_dir);
is($status, 0, 'the stopped server, too');
is_deeply([ grep { $_ > 3 } keys %{ $found->{wal}[0]{sealed_by_generation} } ], [], 'no generation is invented');
my ($text) = (run_tool('pgseal', 'scan', '--summary', $node->data_dir))[1];
like($text, qr{pg_wal: \d+ segments, \d+ pages sealed \(.*of generation 3.*\)}, 'the text says it, too');

# Somebody else's registry.
my $other = SealTest->new('other');
$other->init_seal(load => 0);
($status, $found) = scan('--wal', $node->archive_dir, $other->data_dir);
is($status, 1, 'segments whose key is not in the registry are a finding');
like($found->{problems}[0]{problem}, qr/sealed with generation \d of the WAL key, which the registry does not name/, 'that says so');
($status, $found) = scan('--tablespace', 'ts_secure', $node->data_dir);
is_deeply($found->{wal}, [], 'WAL is left out when tablespaces are named');
done_testing();
