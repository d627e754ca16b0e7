-- pg_seal.require_encryption: what may be created in clear, and where.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_seal;
\getenv module SEAL_SOFTHSM_MODULE
\getenv conf SEAL_SOFTHSM_CONF
\getenv token SEAL_TOKEN
\getenv pin_file SEAL_PIN_FILE
\getenv dir SEAL_TABLESPACE_DIR
SELECT jsonb_build_object('module', :'module', 'token', :'token', 'pin_file', :'pin_file',
	'environment', jsonb_build_object('SOFTHSM2_CONF', :'conf')) AS good, :'dir' || '/ts6' AS ts6, :'dir' || '/ts7' AS ts7 \gset
CREATE TABLESPACE closed LOCATION :'ts6';
CREATE TABLESPACE open LOCATION :'ts7';
SELECT seal.add_provider('required', 'pkcs11', :'good');
SELECT seal.create_keyring('required', 'required');
SELECT seal.encrypt_tablespace('closed', 'required') > 0 AS sealed;
SHOW pg_seal.require_encryption;
SHOW pg_seal.plain_tablespaces;

-- warn: once per statement, whatever it creates
SET pg_seal.require_encryption = warn;
CREATE TABLE plain_one (a int PRIMARY KEY, b text, c serial);
CREATE TABLE sealed_one (a int PRIMARY KEY USING INDEX TABLESPACE closed, b text) TABLESPACE closed;
CREATE TEMP TABLE temporary_one (a int PRIMARY KEY, b text);

-- on
SET pg_seal.require_encryption = on;
CREATE TABLE refused (a int);
\set VERBOSITY terse
CREATE TABLE refused (a int) TABLESPACE closed;
DROP TABLE refused;
CREATE UNLOGGED TABLE refused (a int);
CREATE TABLE refused AS SELECT 1;
SELECT 1 AS a INTO refused;
CREATE MATERIALIZED VIEW refused AS SELECT 1;
CREATE SEQUENCE refused;
CREATE INDEX ON plain_one (b);
CREATE INDEX ON sealed_one (b);
CREATE INDEX ON sealed_one (b) TABLESPACE closed;
CREATE TEMP TABLE temporary_two (a int PRIMARY KEY, b text);
CREATE DATABASE refused;
CREATE DATABASE refused STRATEGY file_copy;
CREATE DATABASE refused STRATEGY file_copy TABLESPACE closed;
CREATE DATABASE seal_regress_closed TABLESPACE closed;
DROP DATABASE seal_regress_closed;
SET default_tablespace = closed;
CREATE TABLE allowed (a int PRIMARY KEY, b text);
CREATE TABLE refused (a serial); -- sequences lie in the database's own tablespace
RESET default_tablespace;
DO $$ BEGIN EXECUTE 'CREATE TABLE refused (a int)'; END $$;

-- what is plain already may be written anew in its place, but not become more, nor move
INSERT INTO plain_one SELECT g, 'b' FROM generate_series(1, 10) g;
VACUUM FULL plain_one;
CLUSTER plain_one USING plain_one_pkey;
REINDEX TABLE plain_one;
REINDEX INDEX CONCURRENTLY plain_one_pkey;
TRUNCATE plain_one RESTART IDENTITY;
ALTER TABLE plain_one ALTER a TYPE bigint;
ALTER TABLE plain_one ADD d text DEFAULT random()::text;
ALTER SEQUENCE plain_one_c_seq START 5;
VACUUM FULL pg_catalog.pg_description;
ALTER TABLE plain_one ADD UNIQUE (b);
ALTER TABLE plain_one ADD e int UNIQUE;
ALTER TABLE plain_one SET TABLESPACE open;
ALTER TABLE sealed_one SET TABLESPACE pg_default;
ALTER INDEX sealed_one_pkey SET TABLESPACE open;
ALTER TABLE ALL IN TABLESPACE closed SET TABLESPACE open;
REINDEX (TABLESPACE open) TABLE plain_one;
ALTER TABLE plain_one SET TABLESPACE closed;
CREATE MATERIALIZED VIEW view_one TABLESPACE closed AS SELECT 1 AS a;
REFRESH MATERIALIZED VIEW view_one;

-- exceptions by name
SET pg_seal.plain_tablespaces = 'no_such_one, open';
CREATE TABLE excepted (a int PRIMARY KEY USING INDEX TABLESPACE open) TABLESPACE open;
CREATE TABLE refused (a int);
SET pg_seal.plain_tablespaces = 'open, "pg_default"';
CREATE TABLE allowed_too (a int PRIMARY KEY);
SET pg_seal.plain_tablespaces = 'a b';
SELECT status, detail FROM seal.health WHERE check_name = 'require_encryption';
RESET pg_seal.plain_tablespaces;
RESET pg_seal.require_encryption;
SELECT status, detail FROM seal.health WHERE check_name = 'require_encryption';
\set VERBOSITY default

CHECKPOINT;
SELECT seal.is_encrypted('plain_one') AS plain_one, seal.is_encrypted('sealed_one') AS sealed_one, seal.is_encrypted('allowed') AS allowed,
	seal.is_encrypted('excepted') AS excepted;
DROP MATERIALIZED VIEW view_one;
DROP TABLE plain_one, sealed_one, allowed, allowed_too, excepted, temporary_one, temporary_two;
DROP TABLESPACE closed;
DROP TABLESPACE open;
SELECT seal.drop_keyring('required');
SELECT seal.drop_provider('required');
