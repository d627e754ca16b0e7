-- Operations: what their functions refuse, what their view shows, and that encrypting and decrypting are each other's reverse, row by row.
\set ON_ERROR_STOP 1
\set QUIET 1
\pset format unaligned
\pset tuples_only on
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pg_seal;
\getenv module SEAL_SOFTHSM_MODULE
\getenv conf SEAL_SOFTHSM_CONF
\getenv token SEAL_TOKEN
\getenv pin_file SEAL_PIN_FILE
\getenv dir SEAL_TABLESPACE_DIR
SELECT jsonb_build_object('module', :'module', 'token', :'token', 'pin_file', :'pin_file',
	'environment', jsonb_build_object('SOFTHSM2_CONF', :'conf')) AS good, :'dir' || '/ts8' AS ts8 \gset
CREATE TABLESPACE tap_there LOCATION :'ts8';
SELECT seal.add_provider('tap there', 'pkcs11', :'good') \g /dev/null
SELECT seal.create_keyring('tap there', 'tap there') \g /dev/null
SELECT plan(26);

SELECT has_view('seal', 'operations', 'seal.operations exists');
SELECT columns_are('seal', 'operations', ARRAY['id', 'kind', 'target', 'state', 'pages_done', 'pages_total', 'keyring', 'database', 'relation', 'phase',
	'relations_done', 'failed_relations', 'rate_mb_s', 'time_left', 'wal_bytes', 'wal_estimate', 'requested_by', 'created_at', 'started_at',
	'finished_at', 'detail'], 'with its columns');
SELECT col_type_is('seal', 'operations', 'time_left', 'interval', 'time left is an interval');
SELECT function_privs_are('seal', f, ARRAY['bigint'], 'public', '{}', f || ' is not for everybody')
FROM unnest(ARRAY['pause_operation', 'resume_operation', 'cancel_operation']) AS f;
SELECT throws_ok($$SELECT seal.pause_operation(999999999)$$, '42704', 'operation 999999999 does not exist', 'pausing needs an operation');
SELECT throws_ok($$SELECT seal.resume_operation(999999999)$$, '42704', NULL, 'so does resuming');
SELECT throws_ok($$SELECT seal.cancel_operation(999999999)$$, '42704', NULL, 'and cancelling');
SELECT throws_ok($$SELECT seal.cancel_operation(NULL)$$, '22004', NULL, 'a null is no operation');

SET default_tablespace = tap_there;
CREATE TABLE t (id int PRIMARY KEY, words text, short text DEFAULT 'canary-in-the-mine');
ALTER TABLE t ALTER words SET STORAGE EXTERNAL;
INSERT INTO t SELECT g, repeat('canary-in-the-mine ' || g, 200) FROM generate_series(1, 300) g;
CREATE INDEX t_words ON t USING hash (words);
CREATE UNLOGGED TABLE t_unlogged AS SELECT * FROM t;
CREATE TABLE t_empty (a int);
RESET default_tablespace;
VACUUM t, t_unlogged;
SELECT md5(string_agg(t::text, '' ORDER BY id)) AS before FROM t \gset
SELECT set_config('test.first', seal.encrypt_tablespace('tap_there', 'tap there')::text, false) AS first \gset
SELECT is((SELECT state FROM seal.operations WHERE id = :first), 'done', 'a waiting call returns when the operation is done');
SELECT cmp_ok((SELECT pages_done FROM seal.operations WHERE id = :first), '>=',
	(pg_total_relation_size('t') + pg_total_relation_size('t_unlogged')) / 8192, 'every page was counted');
SELECT cmp_ok((SELECT relations_done FROM seal.operations WHERE id = :first), '>=', 6::bigint, 'and every relation');
SELECT cmp_ok((SELECT wal_bytes FROM seal.operations WHERE id = :first), '>', 0::bigint, 'and the WAL');
SELECT is((SELECT count(*) FROM seal.relations WHERE tablespace = 'tap_there' AND state <> 'sealed'), 0::bigint, 'all is sealed');
SELECT is((SELECT sum(plain_pages) FROM seal.relations WHERE tablespace = 'tap_there'), 0::numeric, 'no plain page is left on disk');
SELECT is(position('canary-in-the-mine'::bytea in pg_read_binary_file(pg_relation_filepath('t'))), 0, 'planted text is gone from the file');
SELECT is((SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM t), :'before', 'every row is the same');
SELECT is((SELECT count(*) FROM t_unlogged WHERE words LIKE 'canary%'), 300::bigint, 'of the unlogged one too');
SELECT throws_ok(format('SELECT seal.pause_operation(%s)', :first), '55000', NULL, 'what is done is not paused');
SELECT throws_ok(format('SELECT seal.cancel_operation(%s)', :first), '55000', NULL, 'nor cancelled');

SELECT seal.decrypt_tablespace('tap_there') AS second \gset
SELECT is((SELECT kind || ' ' || state FROM seal.operations WHERE id = :second), 'decrypt done', 'the way back');
SELECT is((SELECT count(*) FROM seal.relations WHERE tablespace = 'tap_there' AND state <> 'plain'), 0::bigint, 'all is plain');
SELECT cmp_ok(position('canary-in-the-mine'::bytea in pg_read_binary_file(pg_relation_filepath('t'))), '>', 0, 'planted text is in the file again');
SELECT is((SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM t), :'before', 'every row is the same');
SELECT throws_ok($$SELECT seal.decrypt_tablespace('tap_there', false)$$, '55000', NULL, 'twice is once too often');
SELECT * FROM finish();

DROP TABLE t, t_unlogged, t_empty;
DROP TABLESPACE tap_there;
