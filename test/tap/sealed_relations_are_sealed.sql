-- In a sealed tablespace everything with storage is sealed, in every fork; elsewhere nothing is; the files themselves are asked.
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
	'environment', jsonb_build_object('SOFTHSM2_CONF', :'conf')) AS good, :'dir' || '/ts3' AS ts3 \gset
CREATE TABLESPACE tap_secure LOCATION :'ts3';
SELECT seal.add_provider('tap sealed', 'pkcs11', :'good') \g /dev/null
SELECT seal.create_keyring('tap sealed', 'tap sealed') \g /dev/null
SELECT seal.encrypt_tablespace('tap_secure', 'tap sealed') \g /dev/null
SELECT plan(17);

SET default_tablespace = tap_secure;
CREATE TABLE t (id bigserial PRIMARY KEY, words text, numbers int[], place point, made timestamptz DEFAULT '2026-01-01',
	short text DEFAULT 'canary-in-the-mine');
ALTER TABLE t ALTER words SET STORAGE EXTERNAL; -- as it is: compression would hide it too
ALTER SEQUENCE t_id_seq OWNED BY NONE;
INSERT INTO t (words, numbers, place) SELECT repeat('canary-in-the-mine ' || g, 200), ARRAY[g, g + 1], point(g, g) FROM generate_series(1, 300) g;
CREATE INDEX t_hash ON t USING hash (words);
CREATE INDEX t_gin ON t USING gin (numbers);
CREATE INDEX t_gist ON t USING gist (place);
CREATE INDEX t_spgist ON t USING spgist (place);
CREATE INDEX t_brin ON t USING brin (made);
CREATE MATERIALIZED VIEW t_view AS SELECT id, words FROM t;
CREATE UNLOGGED TABLE t_unlogged AS SELECT * FROM t;
CREATE TABLE t_parts (a int) PARTITION BY RANGE (a);
CREATE TABLE t_part1 PARTITION OF t_parts FOR VALUES FROM (0) TO (1000);
INSERT INTO t_parts SELECT generate_series(0, 999);
RESET default_tablespace;
CREATE TABLE t_plain AS SELECT * FROM t;
VACUUM t, t_parts;
CHECKPOINT;

SELECT is((SELECT count(*) FROM pg_class c JOIN pg_tablespace s ON s.oid = c.reltablespace
	WHERE s.spcname = 'tap_secure' AND c.relkind IN ('r', 'i', 't', 'm', 'S') AND NOT seal.is_encrypted(c.oid)), 0::bigint,
	'everything in the tablespace is encrypted');
SELECT cmp_ok((SELECT count(*) FROM seal.relations WHERE tablespace = 'tap_secure'), '>=', 14::bigint, 'and seal.relations lists all of it');
SELECT is((SELECT count(*) FROM seal.relations WHERE tablespace = 'tap_secure' AND (state <> 'sealed' OR plain_pages > 0 OR keyring <> 'tap sealed')),
	0::bigint, 'each as sealed, without a plain page, under its keyring');
SELECT is((SELECT total_pages FROM seal.relations WHERE relation = 't'::regclass),
	(pg_relation_size('t', 'main') + pg_relation_size('t', 'fsm') + pg_relation_size('t', 'vm')) / 8192, 'all forks are counted');
SELECT is((SELECT sealed_pages + zero_pages FROM seal.relations WHERE relation = 't_gin'::regclass), pg_relation_size('t_gin') / 8192,
	'a page is sealed or zero');
SELECT ok(NOT seal.is_encrypted('t_plain'), 'a copy elsewhere is plain');
SELECT is((SELECT sealed_pages FROM seal.relations WHERE relation = 't_plain'::regclass), 0::bigint, 'without a sealed page');

-- the files themselves: planted text is in one and not in the other
SELECT pg_relation_filepath('t') AS sealed_file, pg_relation_filepath('t_plain') AS plain_file,
	pg_relation_filepath((SELECT reltoastrelid FROM pg_class WHERE relname = 't')::regclass) AS toast_file \gset
SELECT is(position('canary-in-the-mine'::bytea in pg_read_binary_file(:'sealed_file')), 0, 'planted text is not in the sealed file');
SELECT is(position('canary-in-the-mine'::bytea in pg_read_binary_file(:'toast_file')), 0, 'nor in its TOAST file');
SELECT cmp_ok(position('canary-in-the-mine'::bytea in pg_read_binary_file(:'plain_file')), '>', 0, 'it is in the plain one');
SELECT is((SELECT count(DISTINCT generation) >= 1 FROM seal.relations WHERE tablespace = 'tap_secure'), true, 'generations are told');

-- a relfilenode changes, the seal stays
SELECT pg_relation_filenode('t') AS filenode \gset
VACUUM FULL t;
CHECKPOINT;
SELECT isnt(pg_relation_filenode('t'), :filenode::oid, 'VACUUM FULL rewrote the table');
SELECT ok(seal.is_encrypted('t'), 'sealed again');
TRUNCATE t_unlogged;
SELECT ok(seal.is_encrypted('t_unlogged'), 'so after TRUNCATE');
REINDEX INDEX CONCURRENTLY t_hash;
CHECKPOINT;
SELECT ok(seal.is_encrypted('t_hash'), 'and after REINDEX CONCURRENTLY');
SELECT is((SELECT count(*) FROM t WHERE words LIKE 'canary-in-the-mine%'), 300::bigint, 'and every row is readable');
SELECT throws_ok($$SELECT seal.drop_keyring('tap sealed')$$, '2BP01', NULL, 'the keyring cannot be dropped');
SELECT * FROM finish();

DROP TABLE t, t_unlogged, t_parts, t_plain CASCADE;
DROP SEQUENCE IF EXISTS t_id_seq;
DROP TABLESPACE tap_secure;
