-- Operations: their view, what may be done to them in which state, and that a second one beside them is refused.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_seal;
\getenv module SEAL_SOFTHSM_MODULE
\getenv conf SEAL_SOFTHSM_CONF
\getenv token SEAL_TOKEN
\getenv pin_file SEAL_PIN_FILE
\getenv dir SEAL_TABLESPACE_DIR
SELECT jsonb_build_object('module', :'module', 'token', :'token', 'pin_file', :'pin_file',
	'environment', jsonb_build_object('SOFTHSM2_CONF', :'conf')) AS good, :'dir' || '/ts4' AS ts4, :'dir' || '/ts5' AS ts5 \gset
CREATE TABLESPACE slow LOCATION :'ts4';
CREATE TABLESPACE queued LOCATION :'ts5';
SELECT seal.add_provider('operations', 'pkcs11', :'good');
SELECT seal.create_keyring('operations', 'operations');
CREATE TABLE slow_one TABLESPACE slow AS SELECT g AS a, repeat('x', 900) AS b FROM generate_series(1, 48000) g;
CREATE FUNCTION operation_is(which bigint, wanted text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..600 LOOP
		IF EXISTS (SELECT FROM seal.operations WHERE id = which AND state = wanted) THEN RETURN true; END IF;
		PERFORM pg_sleep(0.1);
	END LOOP;
	RETURN false;
END $$;

-- so slow that it is met at work
ALTER SYSTEM SET pg_seal.rotation_rate = '1MB';
SELECT pg_reload_conf();
SELECT seal.encrypt_tablespace('slow', 'operations', wait => false) AS id \gset
SELECT operation_is(:id, 'running');
SELECT kind, target, keyring, pages_done < pages_total AS some_left, pages_total > 5000 AS total, relations_done, failed_relations, wal_estimate > 0 AS wal,
	requested_by = current_user AS mine, created_at <= started_at AS began, finished_at
FROM seal.operations WHERE id = :id;

-- one at a time, in either direction; the id differs from server to server
DO $$ BEGIN PERFORM seal.encrypt_tablespace('slow', 'operations', wait => false); EXCEPTION WHEN object_in_use THEN
	RAISE WARNING '%', regexp_replace(sqlerrm, '\d+', 'N'); END $$;
DO $$ BEGIN PERFORM seal.decrypt_tablespace('slow', wait => false); EXCEPTION WHEN object_in_use THEN
	RAISE WARNING '%', regexp_replace(sqlerrm, '\d+', 'N'); END $$;

-- another tablespace's waits for its turn
SELECT seal.encrypt_tablespace('queued', 'operations', wait => false) AS next \gset
SELECT state, regexp_replace(detail, '\d+', 'N') AS detail, started_at FROM seal.operations WHERE id = :next;
SELECT seal.pause_operation(:next);
SELECT state, detail = 'paused by ' || current_user AS detail FROM seal.operations WHERE id = :next;
SELECT seal.resume_operation(:next);
SELECT seal.cancel_operation(:next);
SELECT state, detail = 'cancelled by ' || current_user AS detail, finished_at IS NOT NULL AS finished FROM seal.operations WHERE id = :next;

-- what does not fit the state
DO $$ DECLARE call text; BEGIN
	FOREACH call IN ARRAY ARRAY['pause', 'resume', 'cancel'] LOOP
		BEGIN
			EXECUTE format('SELECT seal.%s_operation((SELECT max(id) FROM seal.operations))', call);
		EXCEPTION WHEN object_not_in_prerequisite_state THEN RAISE WARNING '%', regexp_replace(sqlerrm, '\d+', 'N'); END;
	END LOOP;
END $$;
\set VERBOSITY terse
SELECT seal.pause_operation(0);
SELECT seal.resume_operation(-1);
SELECT seal.cancel_operation(9223372036854775807);
SELECT seal.cancel_operation(NULL);
BEGIN READ ONLY;
SELECT seal.pause_operation(1);
ROLLBACK;
\set VERBOSITY default

-- a pause stops it, and is not undone by ROLLBACK; resumed, and faster, it ends
BEGIN;
SELECT seal.pause_operation(:id);
ROLLBACK;
SELECT state, finished_at FROM seal.operations WHERE id = :id;
SELECT count(*) AS rows FROM slow_one WHERE b = repeat('x', 900);
ALTER SYSTEM RESET pg_seal.rotation_rate;
SELECT pg_reload_conf();
SELECT seal.resume_operation(:id);
SELECT operation_is(:id, 'done');
SELECT pages_done = pages_total AS all, relations_done > 0 AS relations, failed_relations, wal_bytes > 5000 * 8192 AS wal, finished_at >= started_at AS ended,
	rate_mb_s, time_left, database, relation, phase, detail
FROM seal.operations WHERE id = :id;
SELECT count(*) AS rows, seal.is_encrypted('slow_one') FROM slow_one WHERE b = repeat('x', 900);

-- once more finds nothing to do; back again
SELECT seal.encrypt_tablespace('slow', 'operations') > :id AS again;
SELECT pages_done, relations_done, state FROM seal.operations ORDER BY id DESC LIMIT 1;
SELECT seal.decrypt_tablespace('slow') > :id AS back;
SELECT count(*) AS rows, seal.is_encrypted('slow_one') FROM slow_one WHERE b = repeat('x', 900);

-- the last operation of a tablespace shows in seal.health when it did not do all
SELECT seal.encrypt_tablespace('slow', 'operations') > 0 AS sealed;
ALTER SYSTEM SET pg_seal.rotation_rate = '1MB';
SELECT pg_reload_conf();
SELECT seal.decrypt_tablespace('slow', wait => false) AS id \gset
SELECT operation_is(:id, 'running');
SELECT seal.pause_operation(:id);
SELECT status, detail, regexp_replace(hint, '\d+', 'N') AS hint FROM seal.health WHERE check_name = 'operation ' || :id;
SELECT seal.cancel_operation(:id);
SELECT status, regexp_replace(detail, '\d+', 'N') AS detail FROM seal.health WHERE check_name = 'tablespace slow';
ALTER SYSTEM RESET pg_seal.rotation_rate;
SELECT pg_reload_conf();

-- a dropped tablespace takes its operations along: the one that is left half-way, and one that waits for its turn
DROP TABLE slow_one;
DROP TABLESPACE slow;
SELECT count(*) FROM seal.health WHERE check_name = 'tablespace slow';
CREATE TABLE keeps_busy TABLESPACE queued AS SELECT 1 AS a;
SELECT seal.encrypt_tablespace('queued', 'operations', wait => false) AS id \gset
SELECT seal.pause_operation(:id);
DROP TABLE keeps_busy;
DROP TABLESPACE queued;
SELECT state, detail FROM seal.operations WHERE id = :id;
DROP FUNCTION operation_is;
SELECT seal.drop_keyring('operations');
SELECT seal.drop_provider('operations');
