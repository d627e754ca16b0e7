# The policy of the tablespace decides, whatever way a relation comes into it: created, moved, rewritten, truncated, rebuilt,
# copied as a database. Every kind of relation is sealed there, and comes out plain when it moves out.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Convert;
use Test::More;

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
$node->init_seal(checksums => 1, allows_streaming => 1);
$node->start;
$node->set_up_keys($token);
$node->make_tablespace('secure', sealed => 1);
$node->make_tablespace('open');

# A statement that copies a directory raw and needs an operation afterwards: what that was, when it has ended.
sub raw_copy
{
	my ($node, $statement) = @_;
	my ($status, $out, $err) = $node->psql('postgres', $statement);
	return { error => $err } if $status != 0 || $err !~ /copied as they are; operation (\d+) (un)?seals them/;
	my $operation = wait_for_state($node, $1, 'done');
	return { map { ($_ => $operation->{$_}) } qw(kind target state) };
}

# expect_sealed('relation', 1 or 0, 'claim')
sub expect_sealed
{
	my ($relation, $sealed, $claim, $database) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($node->is_sealed_on_disk($database || 'postgres', $relation), $sealed, "$claim: $relation is "
		  . ($sealed ? 'sealed' : 'plain'));
}

# --- rewrites of a sealed table stay sealed and get another key ---
$node->safe_psql('postgres', q{
	CREATE TABLE t (id int, note text) TABLESPACE secure;
	INSERT INTO t SELECT g, 'note ' || g FROM generate_series(1, 4000) g;
	CREATE INDEX t_id ON t (id) TABLESPACE secure;
});
my $sum = q{SELECT count(*), sum(id), md5(string_agg(note, ',' ORDER BY id)) FROM t};
my $expected = $node->safe_psql('postgres', $sum);
for my $statement ('VACUUM FULL t', 'CLUSTER t USING t_id', 'ALTER TABLE t ALTER id TYPE bigint', 'REINDEX INDEX t_id',
	'REINDEX INDEX CONCURRENTLY t_id', 'VACUUM (FREEZE) t', 'ALTER TABLE t SET TABLESPACE open', 'ALTER TABLE t SET TABLESPACE secure')
{
	$node->safe_psql('postgres', $statement);
	expect_sealed('t', $statement =~ /open/ ? 0 : 1, $statement);
	expect_sealed('t_id', 1, $statement);
	is($node->safe_psql('postgres', $sum), $expected, "$statement: the rows are the same");
}
$node->safe_psql('postgres', 'ALTER INDEX t_id SET TABLESPACE open');
expect_sealed('t_id', 0, 'ALTER INDEX SET TABLESPACE out');
$node->safe_psql('postgres', 'ALTER INDEX t_id SET TABLESPACE secure');
expect_sealed('t_id', 1, 'ALTER INDEX SET TABLESPACE in');
$node->safe_psql('postgres', q{BEGIN; TRUNCATE t; ROLLBACK});
is($node->safe_psql('postgres', $sum), $expected, 'a TRUNCATE rolled back leaves the rows');
$node->safe_psql('postgres', q{BEGIN; TRUNCATE t; INSERT INTO t SELECT g, 'note ' || g FROM generate_series(1, 4000) g; COMMIT});
expect_sealed('t', 1, 'TRUNCATE and refill');
is($node->safe_psql('postgres', $sum), $expected, 'TRUNCATE and refill: the rows are there');
$node->safe_psql('postgres', q{ALTER TABLE ALL IN TABLESPACE secure SET TABLESPACE open; ALTER TABLE ALL IN TABLESPACE open SET TABLESPACE secure});
expect_sealed('t', 1, 'ALTER TABLE ALL IN TABLESPACE there and back');
is($node->safe_psql('postgres', $sum), $expected, 'ALTER TABLE ALL IN TABLESPACE: the rows are the same');

# --- a relation that is made and dropped leaves no live key ---
my $live = 'SELECT count(*) FROM seal.relations WHERE keyring IS NOT NULL';
my $before = $node->safe_psql('postgres', $live);
$node->safe_psql('postgres', 'CREATE TABLE gone (x int) TABLESPACE secure; INSERT INTO gone VALUES (1)');
is($node->safe_psql('postgres', $live), $before + 1, 'a new table appears in seal.relations');
$node->safe_psql('postgres', 'DROP TABLE gone');
is($node->safe_psql('postgres', $live), $before, 'a dropped one leaves it');
$node->safe_psql('postgres', 'BEGIN; CREATE TABLE never (x int) TABLESPACE secure; INSERT INTO never VALUES (1); ROLLBACK');
is($node->safe_psql('postgres', $live), $before, 'one whose creation is rolled back leaves it too');

# --- every kind of relation ---
$node->safe_psql('postgres', q{
	SET default_tablespace = secure;
	CREATE TABLE kinds (id int, word text, tags int[], range int4range, place point, long text);
	ALTER TABLE kinds ALTER long SET STORAGE EXTERNAL;
	INSERT INTO kinds SELECT g, md5(g::text), ARRAY[g, g % 7], int4range(g, g + 10), point(g, -g), repeat(md5(g::text), 100)
		FROM generate_series(1, 1000) g;
	CREATE INDEX kinds_btree ON kinds (id);
	CREATE INDEX kinds_hash ON kinds USING hash (word);
	CREATE INDEX kinds_gin ON kinds USING gin (tags);
	CREATE INDEX kinds_gist ON kinds USING gist (range);
	CREATE INDEX kinds_spgist ON kinds USING spgist (place);
	CREATE INDEX kinds_brin ON kinds USING brin (id);
	CREATE MATERIALIZED VIEW kinds_view AS SELECT id, word FROM kinds;
	CREATE UNLOGGED TABLE kinds_unlogged AS SELECT * FROM kinds;
	CREATE INDEX kinds_unlogged_word ON kinds_unlogged (word);
});
# A checkpoint leaves the buffers of unlogged relations alone: they reach the disk at shutdown.
$node->restart;
for my $relation (qw(kinds kinds_btree kinds_hash kinds_gin kinds_gist kinds_spgist kinds_brin kinds_view kinds_unlogged kinds_unlogged_word))
{
	expect_sealed($relation, 1, 'created with default_tablespace');
}
my %query = (
	kinds_btree => 'id = 500', kinds_hash => q{word = md5('500')}, kinds_gin => 'tags @> ARRAY[500]',
	kinds_gist => q{range @> 500}, kinds_spgist => q{place ~= point(500, -500)}, kinds_brin => 'id BETWEEN 499 AND 501');
for my $index (sort keys %query)
{
	my $with = $node->safe_psql('postgres', "SET enable_seqscan = off; SELECT count(*), sum(id) FROM kinds WHERE $query{$index}");
	my $without = $node->safe_psql('postgres',
		"SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off; SELECT count(*), sum(id) FROM kinds WHERE $query{$index}");
	is($with, $without, "$index answers from cold pages as a sequential scan does");
}
$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW kinds_view');
expect_sealed('kinds_view', 1, 'REFRESH MATERIALIZED VIEW');
$node->safe_psql('postgres', q{ALTER TABLE kinds_unlogged SET LOGGED});
expect_sealed('kinds_unlogged', 1, 'SET LOGGED');
$node->safe_psql('postgres', q{ALTER TABLE kinds_unlogged SET UNLOGGED; CHECKPOINT});
$node->crash;
$node->start;
is($node->safe_psql('postgres', 'SELECT count(*) FROM kinds_unlogged'), '0', 'a crash empties an unlogged sealed table');
$node->safe_psql('postgres', q{INSERT INTO kinds_unlogged SELECT * FROM kinds});
is($node->safe_psql('postgres', q{SET enable_seqscan = off; SELECT id FROM kinds_unlogged WHERE word = md5('77')}), '77',
	'and its index, reset from the init fork as it is, works');
$node->restart;
expect_sealed('kinds_unlogged', 1, 'refilled after the reset');
expect_sealed('kinds_unlogged_word', 1, 'refilled after the reset');
is($node->safe_psql('postgres', q{SELECT count(*) FROM kinds_unlogged}), '1000', 'refilled after the reset: it reads back');

# Temporary tables: a key in memory only; the text is not on disk while the session lives.
{
	my $session = $node->background_psql('postgres');
	$session->query_safe(q{
		SET temp_buffers = '800kB';
		CREATE TEMP TABLE passing (x text) TABLESPACE secure;
		INSERT INTO passing SELECT 'temporary-canary-' || g FROM generate_series(1, 60000) g});
	is_deeply([ $node->files_with('temporary-canary') ], [], 'a temporary table in a sealed tablespace is sealed');
	is($session->query_safe('SELECT count(DISTINCT x) FROM passing'), '60000', 'and reads back');
	$session->quit;
}

# --- partitions ---
$node->safe_psql('postgres', q{
	CREATE TABLE parted (k int, v text) PARTITION BY RANGE (k) TABLESPACE secure;
	CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (1000);
	CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (1000) TO (2000) TABLESPACE open;
	INSERT INTO parted SELECT g, 'part ' || g FROM generate_series(0, 1999) g;
});
expect_sealed('parted_1', 1, 'a partition takes its parent\'s tablespace');
expect_sealed('parted_2', 0, 'or its own');
is($node->safe_psql('postgres', 'SELECT count(*), sum(k) FROM parted'), '2000|1999000', 'both are read as one');

# --- databases ---
# In a database made in a sealed tablespace catalogs, statistics and sequences are sealed too.
$node->safe_psql('postgres', 'CREATE DATABASE inside TABLESPACE secure STRATEGY wal_log');
$node->safe_psql('inside', q{
	CREATE TABLE person (name text);
	INSERT INTO person SELECT 'catalog-canary' FROM generate_series(1, 50);
	ANALYZE person;
	COMMENT ON TABLE person IS 'comment-canary';
	CREATE SEQUENCE numbers;
	SELECT setval('numbers', 41);
});
for my $relation ('pg_class', 'pg_attribute', 'pg_statistic', 'pg_description', 'pg_proc', 'person', 'numbers')
{
	expect_sealed($relation, 1, 'CREATE DATABASE in a sealed tablespace', 'inside');
}
is_deeply([ $node->files_with('catalog-canary'), $node->files_with('comment-canary') ], [],
	'statistics and comments of such a database are in no file');
# A raw copy brings plain files under a sealed policy, or sealed ones out of it: an operation brings them in order.
$node->fails_like('postgres', 'SET pg_seal.require_encryption = on; CREATE DATABASE raw_in TABLESPACE secure STRATEGY file_copy', qr/wal_log/i,
	'CREATE DATABASE file_copy from plain to sealed is refused with a hint where encryption is required');
is_deeply(raw_copy($node, 'CREATE DATABASE raw_in TABLESPACE secure STRATEGY file_copy'), { kind => 'encrypt', target => 'secure', state => 'done' },
	'else an operation seals the copy');
expect_sealed('pg_proc', 1, 'CREATE DATABASE file_copy from plain to sealed', 'raw_in');
$node->safe_psql('postgres', 'DROP DATABASE raw_in');
$node->safe_psql('postgres', 'CREATE DATABASE raw_clone TEMPLATE inside STRATEGY file_copy');
is($node->safe_psql('raw_clone', 'SELECT min(name), count(*) FROM person'), 'catalog-canary|50',
	'file_copy of a sealed database within its tablespace works: the keys travel with the files');
expect_sealed('person', 1, 'file_copy within the tablespace', 'raw_clone');
$node->safe_psql('raw_clone', q{INSERT INTO person VALUES ('second'); CREATE TABLE other AS SELECT * FROM person; VACUUM FULL person});
is($node->safe_psql('inside', 'SELECT count(*) FROM person'), '50', 'writing the copy leaves the source alone');
is($node->safe_psql('raw_clone', 'SELECT count(*) FROM other'), '51', 'the copy goes on by itself');

$node->safe_psql('postgres', 'CREATE DATABASE outside');
$node->safe_psql('outside', q{CREATE TABLE plain AS SELECT 1 AS x});
$node->fails_like('postgres', 'SET pg_seal.require_encryption = on; ALTER DATABASE outside SET TABLESPACE secure', qr/HINT/,
	'ALTER DATABASE SET TABLESPACE from plain to sealed is refused with a hint where encryption is required');
$node->fails_like('postgres', 'SET pg_seal.require_encryption = on; ALTER DATABASE inside SET TABLESPACE open', qr/HINT/,
	'and from sealed to plain');
is_deeply(raw_copy($node, 'ALTER DATABASE outside SET TABLESPACE secure'), { kind => 'encrypt', target => 'secure', state => 'done' },
	'else an operation seals what has moved in');
expect_sealed('plain', 1, 'ALTER DATABASE SET TABLESPACE from plain to sealed', 'outside');
is_deeply(raw_copy($node, 'ALTER DATABASE outside SET TABLESPACE open'), { kind => 'decrypt', target => 'open', state => 'done' },
	'and unseals what has moved out');
expect_sealed('plain', 0, 'ALTER DATABASE SET TABLESPACE from sealed to plain', 'outside');
is($node->safe_psql('outside', 'SELECT x FROM plain'), '1', 'the row is there');
$node->make_tablespace('secure2', sealed => 1);
$node->safe_psql('postgres', 'ALTER DATABASE inside SET TABLESPACE secure2');
is($node->safe_psql('inside', 'SELECT min(name), count(*) FROM person'), 'catalog-canary|50',
	'between sealed tablespaces a database moves with its keys');
expect_sealed('person', 1, 'ALTER DATABASE SET TABLESPACE', 'inside');
$node->make_tablespace('open2');
my $operations = $node->safe_psql('postgres', 'SELECT count(*) FROM seal.operations');
$node->safe_psql('postgres', 'ALTER DATABASE outside SET TABLESPACE open2');
is($node->safe_psql('outside', 'SELECT x FROM plain'), '1', 'and between plain ones as ever');
is($node->safe_psql('postgres', 'SELECT count(*) FROM seal.operations'), $operations, 'which needs no operation');

# --- crash right after all of this; then take everything away ---
$node->crash;
$node->start;
is($node->safe_psql('raw_clone', 'SELECT count(*) FROM other'), '51', 'recovery replays file_copy with its keys');
is($node->safe_psql('inside', 'SELECT min(name), count(*) FROM person'), 'catalog-canary|50', 'recovery replays the move');
is($node->safe_psql('inside', q{SELECT nextval('numbers') > 41}), 't', 'and the sequence');
is($node->safe_psql('postgres', 'SELECT count(*), sum(k) FROM parted'), '2000|1999000', 'and the partitions');
$node->safe_psql('postgres', $_) for 'DROP DATABASE raw_clone', 'DROP DATABASE inside', 'DROP DATABASE outside';
$node->fails_like('postgres', 'DROP TABLESPACE secure', qr/cannot be dropped|not empty/, 'a tablespace in use is not dropped');
$node->safe_psql('postgres', q{DROP TABLE t, kinds, kinds_unlogged, parted CASCADE});
$node->safe_psql('postgres', "DROP TABLESPACE $_") for 'secure', 'secure2', 'open', 'open2';
is($node->safe_psql('postgres', q{SELECT count(*) FROM seal.tablespaces WHERE tablespace IN ('secure', 'secure2')}), '0',
	'a dropped tablespace leaves seal.tablespaces');
$node->restart;
is($node->safe_psql('postgres', 'SELECT 1'), '1', 'the server starts after all of it');
$node->stop;
$node->command_ok([ 'pg_checksums', '--check', '-D', $node->data_dir ], 'pg_checksums passes at the end');
done_testing();
