# While a tablespace is sealed and unsealed slowly, the speed changed on the way, every kind of DDL goes on in loops: nothing fails, no
# statement waits long, and at the end everything is sealed. Transactions that were open when it began are no exception.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Convert;
use SealTest::KeyFile;
use SealTest::Load;
use Test::More;
use Time::HiRes qw(sleep time);

# Each statement of the loops has this long, waiting for locks included: two busy processors and the loops' own work need a fraction of it.
my $bound = '-c statement_timeout=60s -c lock_timeout=20s';

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
$node->init_seal(checksums => 1, conf => join("\n", 'max_connections = 60', 'wal_level = replica', 'autovacuum = on', 'autovacuum_naptime = 1s', 'max_wal_size = 256MB',
		'log_lock_waits = on', 'max_worker_processes = 20', 'deadlock_timeout = 3s', "pg_seal.tombstone_retention = 0\n"));
$node->start;
$node->set_up_keys($token);
$node->make_tablespace('store');
$node->make_tablespace('other', sealed => 1);
$node->safe_psql('postgres', q{
	CREATE EXTENSION amcheck;
	CREATE TABLE big TABLESPACE store AS SELECT g AS id, md5(g::text) AS note, repeat('x', 300) AS pad FROM generate_series(1, 60000) g;
	CREATE INDEX big_note ON big (note) TABLESPACE store});
$node->safe_psql('postgres', 'CREATE DATABASE moving TABLESPACE store');
$node->safe_psql('moving', 'CREATE TABLE m AS SELECT generate_series(1, 1000) AS x');
my $sum = 'SELECT count(*), sum(id), md5(string_agg(note, $$,$$ ORDER BY id)) FROM big';
my $expected = $node->safe_psql('postgres', $sum);

my %scripts = (
	'drop, truncate' => q{
SET default_tablespace = store;
DROP TABLE IF EXISTS a_:client_id;
CREATE TABLE a_:client_id (id serial PRIMARY KEY, note text, long text);
INSERT INTO a_:client_id (note, long) SELECT md5(g::text), CASE WHEN g % 40 = 0 THEN repeat(md5(g::text), 200) END FROM generate_series(1, 2000) g;
\sleep 100 ms
TRUNCATE a_:client_id;
INSERT INTO a_:client_id (note) SELECT md5(g::text) FROM generate_series(1, 1000) g;
BEGIN;
TRUNCATE a_:client_id;
INSERT INTO a_:client_id (note) VALUES ('x');
ROLLBACK;
\sleep 100 ms
},
	'rewrites' => q{
SET default_tablespace = store;
DROP TABLE IF EXISTS b_:client_id;
CREATE TABLE b_:client_id (id int, note text);
INSERT INTO b_:client_id SELECT g, g::text FROM generate_series(1, 3000) g;
CREATE INDEX b_id_:client_id ON b_:client_id (id);
ALTER TABLE b_:client_id ALTER id TYPE bigint;
ALTER TABLE b_:client_id ADD more numeric DEFAULT random();
CLUSTER b_:client_id USING b_id_:client_id;
VACUUM FULL b_:client_id;
ALTER TABLE b_:client_id SET UNLOGGED;
INSERT INTO b_:client_id SELECT g, g::text FROM generate_series(1, 500) g;
ALTER TABLE b_:client_id SET LOGGED;
ALTER TABLE b_:client_id SET TABLESPACE other;
ALTER TABLE b_:client_id SET TABLESPACE store;
},
	'vacuum that truncates' => q{
SET default_tablespace = store;
CREATE TABLE IF NOT EXISTS c_:client_id (id int, note text);
INSERT INTO c_:client_id SELECT g, repeat('y', 200) FROM generate_series(1, 4000) g;
VACUUM c_:client_id;
DELETE FROM c_:client_id WHERE ctid > '(20,0)';
VACUUM (TRUNCATE true) c_:client_id;
UPDATE c_:client_id SET note = note || '-' WHERE id % 5 = 0;
VACUUM (FREEZE) c_:client_id;
DELETE FROM c_:client_id;
VACUUM c_:client_id;
},
	'indexes' => q{
SET default_tablespace = store;
DROP TABLE IF EXISTS d_:client_id;
CREATE TABLE d_:client_id (id int PRIMARY KEY, note text);
INSERT INTO d_:client_id SELECT g, md5(g::text) FROM generate_series(1, 2000) g;
CREATE INDEX d_note_:client_id ON d_:client_id (note);
CREATE INDEX CONCURRENTLY d_hash_:client_id ON d_:client_id USING hash (note);
CREATE INDEX d_gin_:client_id ON d_:client_id USING gin (to_tsvector('simple', note));
REINDEX TABLE CONCURRENTLY d_:client_id;
REINDEX INDEX d_note_:client_id;
DROP INDEX CONCURRENTLY d_hash_:client_id;
},
	'unlogged and derived' => q{
SET default_tablespace = store;
DROP MATERIALIZED VIEW IF EXISTS e_view_:client_id;
DROP TABLE IF EXISTS e_:client_id;
CREATE UNLOGGED TABLE e_:client_id (id serial PRIMARY KEY, note text);
INSERT INTO e_:client_id (note) SELECT md5(g::text) FROM generate_series(1, 2000) g;
CREATE MATERIALIZED VIEW e_view_:client_id AS SELECT * FROM e_:client_id;
CREATE UNIQUE INDEX ON e_view_:client_id (id);
REFRESH MATERIALIZED VIEW e_view_:client_id;
REFRESH MATERIALIZED VIEW CONCURRENTLY e_view_:client_id;
TRUNCATE e_:client_id RESTART IDENTITY;
CREATE TEMP TABLE e_temp AS SELECT generate_series(1, 1000) AS x;
DROP TABLE e_temp;
BEGIN;
CREATE TABLE e_never_:client_id (x int);
INSERT INTO e_never_:client_id VALUES (1);
ROLLBACK;
},
	'the big table' => q{
\set k random(1, 60000)
BEGIN;
SELECT note FROM big WHERE id = :k;
UPDATE big SET pad = pad WHERE note = md5(:k::text);
COMMIT;
},
	'databases' => q{
DROP DATABASE IF EXISTS passing_a;
DROP DATABASE IF EXISTS passing_b;
CREATE DATABASE passing_a TABLESPACE store;
CREATE DATABASE passing_b TEMPLATE moving STRATEGY file_copy TABLESPACE store;
\sleep 200 ms
DROP DATABASE passing_a;
DROP DATABASE passing_b;
\sleep 200 ms
});

my $load = SealTest::Load->new($node);
sub start_load
{
	$load->run($scripts{$_}, name => $_, settings => $bound, clients => $_ eq 'databases' || $_ eq 'indexes' ? 1 : 2) for sort keys %scripts;
	return;
}

# The loops are right: without a conversion they meet no error.
start_load();
sleep 5;
$load->stop_without_errors('without a conversion no statement of the loops fails');

# A raw copy of a database in the middle of a conversion begins an operation of its own, which mends what it copied.
sub all_ended
{
	wait_until(sub { $node->safe_psql('postgres', q{SELECT count(*) FROM seal.operations WHERE state IN ('pending', 'running')}) eq '0' }, 'every operation ends');
	return;
}

# --- a transaction that was open when it began ---
my $open = $node->background_psql('postgres');
$open->query_safe("BEGIN; CREATE TABLE born_before TABLESPACE store AS SELECT generate_series(1, 5000) AS x");
set_rate($node, 4);
my $from = -s $node->logfile;
start_load();
my $id = begin_convert($node, 'encrypt', 'store');
wait_until(sub { operation($node, $id)->{pages_done} > 300 }, 'the conversion is under way');
is(operation($node, $id)->{state}, 'running', 'sealing runs slowly beside the loops');
$open->query_safe('INSERT INTO born_before SELECT generate_series(1, 5000); COMMIT');
$open->quit;
sleep 4;
set_rate($node, 12);
wait_for_state($node, $id, 'done');
$load->stop_without_errors('no statement of the loops failed or waited long while the tablespace was sealed');
all_ended();
is($node->safe_psql('postgres', 'SELECT count(*), sum(x) FROM born_before'), '10000|25005000', 'what an older transaction created is whole');
tablespace_is($node, 'store', 'sealed', 'and everything is sealed', checkpoint => 1);

# --- back and forth ---
for my $what ('decrypt', 'encrypt')
{
	my $done = $what eq 'encrypt' ? 'sealed' : 'unsealed';
	set_rate($node, 5);
	start_load();
	$id = begin_convert($node, $what, 'store');
	wait_until(sub { operation($node, $id)->{pages_done} > 300 }, 'the conversion is under way');
	sleep 3;
	set_rate($node, 0);
	wait_for_state($node, $id, 'done');
	$load->stop_without_errors("no statement of the loops failed or waited long while the tablespace was $done");
	all_ended();
	is($node->safe_psql('postgres', $sum), $expected, "$done: no row of the big table changed");
	tablespace_is($node, 'store', $what eq 'encrypt' ? 'sealed' : 'plain', "the end: everything is $done", checkpoint => 1);
}
is($node->safe_psql('moving', 'SELECT count(*) FROM m'), '1000', 'the copied database is whole');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class c, LATERAL verify_heapam(c.oid, check_toast => true)
	WHERE relkind IN ('r', 't', 'm') AND relpersistence <> 't'; SELECT bt_index_check('big_note', true)}), "0\n", 'amcheck finds nothing');
my $log = slurp_file($node->logfile, $from);
unlike($log, qr/PANIC|terminated by signal/, 'no process died');
unlike($log, qr/^.*(?:ERROR|WARNING|FATAL): .*(?:key record|invalid page|block \d+ .*is not sealed|page verification|deadlock).*$/m, 'the log knows of no page or key that was missed, and of no deadlock');
is_deeply([ whole_pages($node) ], [], 'key files are whole');
$node->stop;
$node->command_ok([ 'pg_checksums', '--check', '-D', $node->data_dir ], 'pg_checksums passes');
done_testing();
