# What is stored in a sealed tablespace is ciphertext on disk and itself to every query; what is stored elsewhere is
# untouched; a server without the library refuses the sealed data, and does not garble it.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use Test::More;

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
$node->init_seal(checksums => 1);
$node->start;
$node->set_up_keys($token);

# --- before any policy: a tablespace is plain ---
$node->make_tablespace('open');
$node->make_tablespace('secure', sealed => 1);
is($node->safe_psql('postgres', "SELECT count(*) FROM seal.tablespaces WHERE tablespace = 'secure'"), '1',
	'seal.tablespaces lists the policy');

# The text stands twice in each row: inline, and in a value that goes to TOAST uncompressed.
my $mark = 'canary-7d1f3a';
my $columns = "g AS id, '$mark-' || g AS note, repeat('$mark ', 700) AS long";
for my $where ('open', 'secure')
{
	$node->safe_psql('postgres', qq{
		CREATE TABLE t_$where (id int, note text, long text) TABLESPACE $where;
		ALTER TABLE t_$where ALTER long SET STORAGE EXTERNAL;
		INSERT INTO t_$where SELECT $columns FROM generate_series(1, 400) g;
		CREATE INDEX t_${where}_note ON t_$where (note) TABLESPACE $where;
		VACUUM t_$where;
	});
}
my $content = 'SELECT count(*), md5(string_agg(id || note || long, chr(10) ORDER BY id)) FROM ';
my $expected = $node->safe_psql('postgres', $content . 't_open');
is($node->safe_psql('postgres', $content . 't_secure'), $expected, 'a sealed table reads back as it was written');

# --- on disk ---
my %toast = map { $_ => $node->safe_psql('postgres', "SELECT reltoastrelid::regclass FROM pg_class WHERE oid = 't_$_'::regclass") }
  ('open', 'secure');
for my $relation ('t_secure', 't_secure_note', $toast{secure}, "$toast{secure}_index")
{
	is($node->is_sealed_on_disk('postgres', $relation), 1, "every page of $relation, in each fork, is sealed");
	is($node->safe_psql('postgres', "SELECT seal.is_encrypted('$relation')"), 't', "seal.is_encrypted says so of $relation");
}
for my $relation ('t_open', 't_open_note', $toast{open})
{
	is($node->is_sealed_on_disk('postgres', $relation), 0, "no page of $relation is sealed");
	is($node->safe_psql('postgres', "SELECT seal.is_encrypted('$relation')"), 'f', "seal.is_encrypted says so of $relation");
}
my @files = $node->files_with($mark);
ok((grep { m{^pg_tblspc/} } @files), 'the text stands in the files of the plain tablespace');
my %sealed_file = map { substr($_, 1 + length $node->data_dir) => 1 }
  map { $node->relation_files('postgres', $_) } ('t_secure', 't_secure_note', $toast{secure});
is_deeply([ grep { $sealed_file{$_} } @files ], [], 'and in no file of the sealed one');
my $secure_oid = $node->safe_psql('postgres', "SELECT oid FROM pg_tablespace WHERE spcname = 'secure'");
is_deeply([ grep { m{^pg_tblspc/$secure_oid/} } @files ], [], 'nor anywhere else below its directory');

my ($main) = $node->relation_files('postgres', 't_secure');
my $first = page_mark((pages_of($main))[0]);
is($first->{cipher}, 1, 'the page header names AES-256-XTS');
is($node->safe_psql('postgres', "SELECT generation FROM seal.relations WHERE relation = 't_secure'::regclass"),
	$first->{generation}, 'seal.relations shows the generation that the page header carries');
is($node->safe_psql('postgres', "SELECT sealed_pages = total_pages AND total_pages > 0 FROM seal.relations"
		. " WHERE relation = 't_secure'::regclass"), 't', 'seal.relations counts every page as sealed');
my @pages = pages_of($main);
my %bodies = map { substr($_, 24) => 1 } @pages;
is(scalar keys %bodies, scalar @pages, 'no two pages have the same ciphertext');

# --- restart, crash ---
$node->restart;
is($node->safe_psql('postgres', $content . 't_secure'), $expected, 'the same after a restart');
$node->safe_psql('postgres', "UPDATE t_secure SET note = note || '+'; UPDATE t_open SET note = note || '+'");
$expected = $node->safe_psql('postgres', $content . 't_open');
$node->crash;
$node->start;
is($node->safe_psql('postgres', $content . 't_secure'), $expected, 'the same after a crash');
is($node->safe_psql('postgres', 'SET enable_seqscan = off; SELECT id FROM t_secure WHERE note = ' . sql_literal("$mark-77+")),
	'77', 'its index finds the rows');

# --- keys inside the token, nowhere else ---
is(scalar(grep { $_ eq 'default' } $token->objects), 1, 'the token holds one key named after the keyring');
is_deeply([ $node->files_with($token->{pin}, wal => 1) ], [], 'the PIN is in no file of the data directory');

# --- a server without the library ---
$node->stop;
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->start;
$node->fails_like('postgres', 'SELECT * FROM t_secure', qr/invalid page in block 0 of relation/,
	'a server without the library calls a sealed page invalid');
is($node->safe_psql('postgres', $content . 't_open'), $expected, 'it reads plain tables as ever');
$node->fails_like('postgres', "SELECT seal.is_encrypted('t_open')", qr/shared_preload_libraries/,
	'functions of the extension say what is missing');
$node->stop;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_seal'\n");
$node->start;
is($node->safe_psql('postgres', $content . 't_secure'), $expected, 'nothing was damaged by it');

# A key record in WAL that a stock server would have to replay stops it.
$node->safe_psql('postgres', 'CREATE TABLE late TABLESPACE secure AS SELECT 1 AS x');
$node->crash;
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->start_fails_like(qr/resource manager with ID 183 not registered/, 'recovery without the library stops at its records');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_seal'\n");
$node->start;
is($node->safe_psql('postgres', 'SELECT x FROM late'), '1', 'with the library recovery goes through');

# --- back to plain for what comes later ---
$node->safe_psql('postgres', "SELECT seal.decrypt_tablespace('secure'); CREATE TABLE after TABLESPACE secure AS SELECT '$mark'::text AS x");
is($node->is_sealed_on_disk('postgres', 'after'), 0, 'after decrypt_tablespace new tables are plain');
is($node->is_sealed_on_disk('postgres', 't_secure'), 0, 'and sealed ones are plain again');
is($node->safe_psql('postgres', $content . 't_secure'), $expected, 'with all their rows');
$node->stop;
done_testing();
