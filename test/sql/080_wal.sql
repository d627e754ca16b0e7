-- Sealed WAL: its functions, its keys, who may call them. What lies on disk is checked by the TAP tests.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_seal;
\getenv module SEAL_SOFTHSM_MODULE
\getenv conf SEAL_SOFTHSM_CONF
\getenv token SEAL_TOKEN
\getenv pin_file SEAL_PIN_FILE
SELECT jsonb_build_object('module', :'module', 'token', :'token', 'pin_file', :'pin_file',
	'environment', jsonb_build_object('SOFTHSM2_CONF', :'conf')) AS good \gset
SELECT seal.add_provider('wal', 'pkcs11', :'good');
SELECT seal.create_keyring('wal', 'wal');
SELECT seal.create_keyring('wal_hsm', 'wal', protection => 'hsm');
\set VERBOSITY terse

-- nothing yet
SELECT count(*) FROM seal.wal_keys;
SELECT status, detail FROM seal.health WHERE check_name = 'WAL';
SELECT seal.rotate_wal_key();
SELECT seal.disable_wal_encryption();
SELECT seal.enable_wal_encryption('no such keyring');
SELECT seal.enable_wal_encryption('wal_hsm');
SELECT seal.enable_wal_encryption(NULL);

-- on: the key in use, and the one after it
CREATE VIEW shown AS
	SELECT generation, keyring, cipher, state, first_lsn IS NOT NULL AS begun, first_timeline, last_lsn IS NOT NULL AS ended, unlocked
	FROM seal.wal_keys;
SELECT seal.enable_wal_encryption('wal');
SELECT * FROM shown;
SELECT seal.enable_wal_encryption('wal');
SELECT status, detail FROM seal.health WHERE check_name LIKE 'WAL%';
SELECT seal.drop_keyring('wal');

-- rotation, with the cipher chosen then
SELECT seal.rotate_wal_key();
SET pg_seal.cipher = 'aes-128-xts';
SELECT seal.rotate_wal_key();
RESET pg_seal.cipher;
SELECT * FROM shown;
SELECT n.first_lsn = o.last_lsn AS gapless FROM seal.wal_keys o JOIN seal.wal_keys n ON o.generation = 1 AND n.generation = 2;

-- another keyring
SELECT seal.create_keyring('wal_two', 'wal');
SELECT seal.enable_wal_encryption('wal_two');
SELECT generation, keyring, state FROM seal.wal_keys;
SELECT key_type, keyring, version, algorithm, state, wrapped_by FROM seal.keys WHERE key_type = 'WAL key' ORDER BY version;

-- off and on again
SELECT seal.disable_wal_encryption();
SELECT count(*) FILTER (WHERE state = 'active') AS active FROM seal.wal_keys;
SELECT seal.enable_wal_encryption('wal_two');

-- keys are kept for ever, unless a setting says how long archives are wanted
SELECT count(kept_until) FROM seal.wal_keys;
ALTER SYSTEM SET pg_seal.wal_key_retention = '1s';
SELECT pg_reload_conf();
SELECT pg_sleep(1.5);
SELECT count(kept_until) > 0 AS limited FROM seal.wal_keys;
SELECT seal.rotate_wal_key() > 6 AS rotated;
SELECT count(*) < 6 AS expired, min(generation) > 1 AS oldest_gone FROM seal.wal_keys;
ALTER SYSTEM RESET pg_seal.wal_key_retention;
SELECT pg_reload_conf();

-- what it says in the audit log
SELECT event, object, result, detail ? 'generation' AS generation FROM seal.audit_log
	WHERE event IN ('wal.encrypt', 'wal.decrypt', 'wal_key.rotate') ORDER BY seq;

-- a tablespace is converted through WAL
\getenv dir SEAL_TABLESPACE_DIR
SELECT :'dir' || '/ts8' AS ts8 \gset
CREATE TABLESPACE through_wal LOCATION :'ts8';
CREATE TABLE through_wal (a int) TABLESPACE through_wal;
INSERT INTO through_wal SELECT generate_series(1, 1000);
SELECT seal.disable_wal_encryption();
SET pg_seal.plain_wal_conversion = refuse;
SELECT seal.encrypt_tablespace('through_wal', 'wal');
SELECT sealed FROM seal.tablespaces WHERE tablespace = 'through_wal';
SET pg_seal.plain_wal_conversion = warn;
SELECT seal.encrypt_tablespace('through_wal', 'wal') > 0 AS sealed;
SELECT seal.decrypt_tablespace('through_wal') > 0 AS unsealed;
SET pg_seal.plain_wal_conversion = allow;
SELECT seal.encrypt_tablespace('through_wal', 'wal') > 0 AS sealed;
RESET pg_seal.plain_wal_conversion;

-- rights
CREATE ROLE wal_nobody;
SET ROLE wal_nobody;
SELECT seal.enable_wal_encryption('wal');
SELECT count(*) FROM seal.wal_keys;
RESET ROLE;
DROP ROLE wal_nobody;
DROP VIEW shown;
DROP TABLE through_wal;
SELECT seal.decrypt_tablespace('through_wal') > 0 AS unsealed;
DROP TABLESPACE through_wal;
