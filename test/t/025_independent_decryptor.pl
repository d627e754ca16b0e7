# A decryptor that shares no code with the product (test/decrypt_page.py, written from docs/formats.md) opens pages from the files
# alone, given the value of the KEK: key record, registry and page formats are what the documentation says. The KEK is imported
# into the test token with a known value and adopted.
use strict;
use warnings;
use File::Basename qw(dirname);
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Crash;
use Test::More;

my $decryptor = dirname(__FILE__) . '/../decrypt_page.py';
my $token = SealTest::Token->new;
my $kek = join '', map { chr(33 + int rand 220) } 1 .. 32;    # softhsm2-util takes a file up to a zero byte or a line's end
$token->import_key('known', $kek);
my $node = SealTest->new('primary');
init_for_crashes($node, checksums => 1);
$node->start;
$node->set_up_keys($token);
$node->safe_psql('postgres', q{SELECT seal.create_keyring('adopted', 'hsm', kek => 'known', create_kek => false)});
$node->safe_psql('postgres', q{SELECT seal.create_keyring('inside', 'hsm', kek => 'known', create_kek => false, protection => 'hsm')});
$node->make_tablespace('standard', sealed => 'adopted');
$node->make_tablespace('inside', sealed => 'inside');
$node->make_tablespace('short');
$node->safe_psql('postgres', q{SET pg_seal.cipher = 'aes-128-xts'; SELECT seal.encrypt_tablespace('short', 'adopted')});
$node->safe_psql('postgres', 'CREATE EXTENSION pageinspect');
for my $tablespace (qw(standard inside short))
{
	$node->safe_psql('postgres', qq{
		CREATE TABLE t_$tablespace (id int, x text) TABLESPACE $tablespace;
		INSERT INTO t_$tablespace SELECT g, 'canary-' || g FROM generate_series(1, 3000) g;
		CREATE INDEX i_$tablespace ON t_$tablespace (x) TABLESPACE $tablespace;
		CREATE UNLOGGED TABLE u_$tablespace (x int PRIMARY KEY USING INDEX TABLESPACE $tablespace) TABLESPACE $tablespace;
		INSERT INTO u_$tablespace SELECT generate_series(1, 500);
		DELETE FROM t_$tablespace WHERE id < 200;
		VACUUM t_$tablespace});
}
$node->restart;    # what is in the buffers afterwards is what is on disk

# decrypt($path, $block): the plain page, and what the program said.
sub decrypt
{
	my ($path, $block, $key) = @_;
	my ($page, $error) = ('', '');
	IPC::Run::run([ '/usr/bin/python3', $decryptor, '--check', $node->data_dir, unpack('H*', $key || $kek), $path, $block ], '>', \$page, '2>', \$error);
	return ($page, $error);
}

# The checksum is of the page as it lies on disk.
sub without_checksum { my ($page) = @_; substr($page, 8, 2) = '' if length $page > 10; return $page }

my $pages = 0;
for my $case (map { my $t = $_; map { [ $t, @$_ ] } ([ 't', 'main', 0 ], [ 't', 'main', 7 ], [ 't', 'fsm', 0 ], [ 't', 'vm', 0 ], [ 'i', 'main', 0 ], [ 'i', 'main', 5 ], [ 'u', 'main', 1 ]) }
	qw(standard inside short))
{
	my ($tablespace, $kind, $fork, $block) = @$case;
	my $relation = "${kind}_$tablespace";
	my $path = $node->safe_psql('postgres', "SELECT pg_relation_filepath('$relation')") . ($fork eq 'main' ? '' : "_$fork");
	my $expected = pack 'H*', $node->safe_psql('postgres', "SELECT encode(get_raw_page('$relation', '$fork', $block), 'hex')");
	my ($page, $error) = decrypt($path, $block);
	ok(without_checksum($page) eq without_checksum($expected), "$relation, $fork fork, block $block: the page opens to what the server sees")
	  or diag($error || join ', ', 'first difference at', grep { substr($page, $_, 1) ne substr($expected, $_, 1) } 10 .. 60);
	$pages++ if $page =~ /canary-/;
}
cmp_ok($pages, '>=', 6, 'pages with the planted text among them');

my $path = $node->safe_psql('postgres', q{SELECT pg_relation_filepath('t_standard')});
my $wrong = $kek;
substr($wrong, 5, 1) ^= "\1";
my ($page, $error) = decrypt($path, 0, $wrong);
is($page, '', 'another KEK opens nothing');
like($error, qr/does not authenticate/, 'and the reason is given');
$node->stop;
done_testing();
