-- Health: every check answers, with a provider that works and one that does not.
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pg_seal;
\getenv module SEAL_SOFTHSM_MODULE
\getenv conf SEAL_SOFTHSM_CONF
\getenv token SEAL_TOKEN
\getenv pin_file SEAL_PIN_FILE
SELECT jsonb_build_object('module', :'module', 'token', :'token', 'pin_file', :'pin_file',
	'environment', jsonb_build_object('SOFTHSM2_CONF', :'conf')) AS good \gset
SELECT seal.add_provider('health good', 'pkcs11', :'good');
SELECT seal.add_provider('health bad', 'pkcs11', '{"module": "/nonexistent/module.so", "token": "t", "pin_file": "/nonexistent"}');
SELECT seal.create_keyring('health k', 'health good');

SELECT check_name, status FROM seal.health
WHERE check_name IN ('library', 'storage seam', 'key agent worker', 'key agent', 'provider health good', 'provider health bad',
	'keyring health k', 'key index', 'tombstones', 'operations worker', 'require_encryption', 'dynamic_shared_memory_type', 'data_checksums')
ORDER BY check_name COLLATE "C";
SELECT check_name FROM seal.health WHERE check_name IN ('vault', 'core dumps') ORDER BY 1;
SELECT check_name FROM seal.health WHERE status NOT IN ('ok', 'info', 'warning', 'error') OR detail = '';
SELECT check_name, hint IS NOT NULL AS hint FROM seal.health WHERE status IN ('warning', 'error')
	AND check_name <> 'vault' ORDER BY 1;

-- the row of a provider follows its last check
SELECT seal.alter_provider('health bad', :'good');
SELECT check_name, status FROM seal.health WHERE check_name = 'provider health bad';

SELECT seal.drop_keyring('health k');
SELECT seal.drop_provider('health good');
SELECT seal.drop_provider('health bad');
