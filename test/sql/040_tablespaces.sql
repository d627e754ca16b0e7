-- Sealing a tablespace: its policy, what is made from then on, and what was there before.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_seal;
\getenv module SEAL_SOFTHSM_MODULE
\getenv conf SEAL_SOFTHSM_CONF
\getenv token SEAL_TOKEN
\getenv pin_file SEAL_PIN_FILE
\getenv dir SEAL_TABLESPACE_DIR
SELECT jsonb_build_object('module', :'module', 'token', :'token', 'pin_file', :'pin_file',
	'environment', jsonb_build_object('SOFTHSM2_CONF', :'conf')) AS good, :'dir' || '/ts1' AS ts1 \gset
CREATE TABLESPACE secure LOCATION :'ts1';
SELECT seal.add_provider('hsm', 'pkcs11', :'good');

-- without a keyring named default the error says how to make one
SELECT seal.encrypt_tablespace('secure');
SELECT seal.create_keyring('default', 'hsm');
SELECT seal.create_keyring('direct', 'hsm', protection => 'hsm');

-- of an empty one there is nothing to convert; it is said once what depends on the KEK
RESET client_min_messages;
SELECT seal.encrypt_tablespace('secure') > 0 AS operation;
SELECT seal.decrypt_tablespace('secure') > 0 AS operation;
SET client_min_messages = warning;

CREATE TABLE before (a int PRIMARY KEY USING INDEX TABLESPACE secure, b text) TABLESPACE secure;
INSERT INTO before SELECT g, repeat('plain ' || g, 1000) FROM generate_series(1, 500) g;
SELECT seal.is_encrypted('before') AS before;
SELECT seal.encrypt_tablespace('secure') > 0 AS operation;
SELECT seal.is_encrypted('before') AS before, seal.is_encrypted('before_pkey') AS index,
	seal.is_encrypted((SELECT reltoastrelid FROM pg_class WHERE oid = 'before'::regclass)) AS toast, count(*), sum(a), min(length(b)) AS length
FROM before;
SELECT tablespace, sealed, keyring, cipher, since > now() - interval '1 hour' AS recent, set_by = current_user AS mine
FROM seal.tablespaces ORDER BY 1;

-- made from now on: sealed, all forks, like what was made before
CREATE TABLE after (a int PRIMARY KEY USING INDEX TABLESPACE secure, b text, c serial) TABLESPACE secure;
INSERT INTO after (a, b) SELECT g, repeat('sealed ' || g, 400) FROM generate_series(1, 500) g;
CREATE MATERIALIZED VIEW after_view TABLESPACE secure AS SELECT * FROM after;
CREATE UNLOGGED TABLE after_unlogged (a int) TABLESPACE secure;
INSERT INTO after_unlogged VALUES (1);
VACUUM after;
CHECKPOINT;
SELECT relation::text, tablespace, keyring, generation BETWEEN 0 AND 255 AS generation, sealed_pages > 0 OR relation = 'after_unlogged'::regclass AS has_sealed,
	plain_pages > 0 AS has_plain, sealed_pages + plain_pages + zero_pages = total_pages AS adds_up, state, cipher, created_at IS NOT NULL AS created
FROM seal.relations WHERE tablespace = 'secure' AND relation::text !~ 'toast' ORDER BY relation::text;
SELECT bool_and(seal.is_encrypted(relation)) AS all_sealed FROM seal.relations WHERE tablespace = 'secure';
SELECT count(*) > 0 AS toast, bool_and(state = 'sealed') AS sealed FROM seal.relations
WHERE relation::text ~ 'toast' AND tablespace = 'secure'
	AND relation IN (SELECT reltoastrelid FROM pg_class WHERE relname ~ '^(after|before)');
SELECT seal.is_encrypted('before') AS before, seal.is_encrypted('after') AS after, seal.is_encrypted('after_pkey') AS index,
	seal.is_encrypted('pg_class') AS catalog, seal.is_encrypted('seal.relations') AS view, seal.is_encrypted(NULL) AS nothing,
	seal.is_encrypted(4294967295::oid::regclass) AS no_relation;
-- an empty one has a key; a sequence in a plain tablespace does not
CREATE TABLE empty (a int) TABLESPACE secure;
SELECT seal.is_encrypted('empty') AS empty, seal.is_encrypted('after_c_seq') AS sequence;
SELECT sealed_pages, total_pages, state FROM seal.relations WHERE relation = 'empty'::regclass;

-- temporary relations: the key is in memory only
CREATE TEMP TABLE temporary_one TABLESPACE secure AS SELECT g AS a FROM generate_series(1, 500) g;
SELECT seal.is_encrypted('temporary_one');
SELECT state, cipher, keyring FROM seal.relations WHERE relation = 'temporary_one'::regclass;

-- another keyring and another cipher for what comes next; what is there keeps its key
SET pg_seal.cipher = 'aes-128-xts';
SELECT seal.encrypt_tablespace('secure', 'direct') > 0 AS operation;
RESET pg_seal.cipher;
CREATE TABLE direct_one TABLESPACE secure AS SELECT g AS a FROM generate_series(1, 500) g;
CHECKPOINT;
SELECT relation, keyring, cipher, state FROM seal.relations
WHERE relation IN ('after'::regclass, 'direct_one'::regclass) ORDER BY relation::text;
SELECT keyring, algorithm, length, wrapped_by, count > 0 AS some FROM seal.keys WHERE key_type = 'DEK' ORDER BY 1, 2;
SELECT sum(a) FROM direct_one;

-- a keyring in use is not dropped: by a policy, by a relation
\set VERBOSITY terse
SELECT seal.drop_keyring('direct');
SELECT seal.drop_keyring('default');
\set VERBOSITY default

-- moving follows the destination
ALTER TABLE before SET TABLESPACE pg_default;
ALTER TABLE before SET TABLESPACE secure;
ALTER TABLE after SET TABLESPACE pg_default;
CHECKPOINT;
SELECT seal.is_encrypted('before') AS before, seal.is_encrypted('after') AS after;
SELECT count(*), sum(a) FROM before;
SELECT count(*), sum(a) FROM after;

-- refused
\set VERBOSITY terse
SELECT seal.encrypt_tablespace('absent');
SELECT seal.encrypt_tablespace('secure', 'absent');
SELECT seal.encrypt_tablespace('secure', NULL);
SELECT seal.encrypt_tablespace(NULL);
SELECT seal.decrypt_tablespace('pg_default');
SELECT seal.decrypt_tablespace('absent');
\set VERBOSITY default
BEGIN;
SELECT seal.encrypt_tablespace('secure');
ROLLBACK;
BEGIN READ ONLY;
SELECT seal.encrypt_tablespace('secure', wait => false);
ROLLBACK;

-- in a block with wait => false, and still not undone
BEGIN;
SELECT seal.decrypt_tablespace('secure', wait => false) AS unsealing \gset
ROLLBACK;
SELECT sealed, keyring, cipher FROM seal.tablespaces WHERE tablespace = 'secure';
CREATE TABLE afterwards TABLESPACE secure AS SELECT 1 AS a;
DO $$ BEGIN
	FOR i IN 1..600 LOOP
		EXIT WHEN NOT EXISTS (SELECT FROM seal.operations WHERE state IN ('pending', 'running'));
		PERFORM pg_sleep(0.1);
	END LOOP;
END $$;
SELECT kind, target, state, pages_done > 0 AS pages FROM seal.operations WHERE id = :unsealing;
SELECT seal.is_encrypted('afterwards') AS afterwards, seal.is_encrypted('direct_one') AS direct_one, count(*) FILTER (WHERE sealed_pages > 0) AS sealed
FROM seal.relations WHERE tablespace = 'secure';
SELECT sum(a) FROM direct_one;

-- operation ids only grow
SELECT seal.encrypt_tablespace('secure') AS first \gset
SELECT seal.encrypt_tablespace('secure') > :first AS grows;
SELECT seal.decrypt_tablespace('secure') > :first AS grows;

-- the shared catalogs are relations like any others
SELECT seal.encrypt_tablespace('pg_global') > 0 AS operation;
SELECT count(*) > 10 AS some, bool_and(state = 'sealed') AS sealed FROM seal.relations WHERE tablespace = 'pg_global';
SELECT seal.decrypt_tablespace('pg_global') > 0 AS operation;
SELECT count(*) > 10 AS some, bool_and(state = 'plain') AS plain FROM seal.relations WHERE tablespace = 'pg_global';

DROP TABLE before, after, after_unlogged, empty, temporary_one, direct_one, afterwards CASCADE;
DROP TABLESPACE secure;
SELECT count(*) FROM seal.tablespaces WHERE sealed;
