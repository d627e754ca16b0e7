-- The audit log: who did what, how it ended; nothing is undone by ROLLBACK, nothing secret is in it.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_seal;
\getenv module SEAL_SOFTHSM_MODULE
\getenv conf SEAL_SOFTHSM_CONF
\getenv token SEAL_TOKEN
\getenv pin_file SEAL_PIN_FILE
\getenv dir SEAL_TABLESPACE_DIR
SELECT jsonb_build_object('module', :'module', 'token', :'token', 'pin_file', :'pin_file',
	'environment', jsonb_build_object('SOFTHSM2_CONF', :'conf')) AS good, :'dir' || '/ts2' AS ts2 \gset
CREATE TABLESPACE audited LOCATION :'ts2';
CREATE ROLE "seal test: ""höchst"" special" SUPERUSER;
SELECT coalesce(max(seq), 0) AS before FROM seal.audit_log \gset
\set VERBOSITY terse

SET ROLE "seal test: ""höchst"" special";
SELECT seal.add_provider('audit p', 'pkcs11', :'good');
RESET ROLE;
SELECT ok FROM seal.check_provider('audit p');
SELECT seal.alter_provider('audit p', :'good');
BEGIN;
SELECT seal.create_keyring('audit k', 'audit p', policy => '{"owner": "payroll"}');
ROLLBACK;
SELECT seal.rotate_kek('audit k');
SELECT seal.set_policy('audit k', '{"owner": "sales"}');
SELECT seal.encrypt_tablespace('audited', 'audit k') > 0;
SELECT seal.drop_keyring('audit k');
SELECT seal.decrypt_tablespace('audited') > 0;
SELECT seal.drop_keyring('audit k');
SELECT seal.drop_provider('audit p');
SELECT seal.drop_provider('audit p');
SELECT seal.create_keyring('Überschlüssel ''"; DROP', 'nowhere');

SELECT row_number() OVER (ORDER BY seq) AS n, seq - :before = row_number() OVER (ORDER BY seq) AS without_gap, event,
	actor = session_user AS actor, role, object, result, detail ->> 'error' AS error
FROM seal.audit_log WHERE seq > :before ORDER BY seq;
-- what the server did by itself has no actor
SELECT event, actor, role, client, application, database, object, result, detail ->> 'kind' AS kind, detail ->> 'requested_by' = current_user AS mine,
	detail ->> 'state' AS state
FROM seal.audit_log WHERE seq > :before AND event LIKE 'operation.%' ORDER BY seq;
SELECT bool_and(client <> '') AS client, bool_and(application = 'pg_regress/060_audit_log') AS application,
	bool_and(database = current_database()) AS database,
	bool_and(at BETWEEN now() - interval '10 minutes' AND clock_timestamp()) AS at, bool_and(segment ~ '^\d{12}\.jsonl$') AS segment
FROM seal.audit_log WHERE seq > :before AND event NOT LIKE 'operation.%';
SELECT event, detail - 'kek_id' - 'config_sha256' - 'keyring_id' - 'operation' - 'tablespace_oid' - 'mechanism' AS detail
FROM seal.audit_log WHERE seq > :before AND result = 'ok' AND event NOT LIKE 'operation.%' ORDER BY seq;

-- neither the PIN, nor wrapped keys, nor a definition
SELECT pg_read_file(:'pin_file') AS pin \gset
SELECT count(*) FROM seal.audit_log a WHERE position(:'pin' in a::text) > 0 OR a::text ~ 'pin_file|softhsm2.conf|"wrapped"';
SELECT count(*) FROM seal.audit_log WHERE event = 'unreadable';

-- a line is a JSON object with a newline, readable by any tool
SELECT bool_and(line::jsonb ? 'seq' AND line::jsonb ? 'result') AS json_lines
FROM pg_ls_dir('pg_seal/audit') AS name, regexp_split_to_table(rtrim(pg_read_file('pg_seal/audit/' || name), E'\n'), '\n') AS line;

DROP TABLESPACE audited;
DROP ROLE "seal test: ""höchst"" special";
