-- Providers: added, altered, checked, dropped, and what is refused.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_seal;
RESET client_min_messages;
\getenv module SEAL_SOFTHSM_MODULE
\getenv conf SEAL_SOFTHSM_CONF
\getenv token SEAL_TOKEN
\getenv pin_file SEAL_PIN_FILE
SELECT jsonb_build_object('module', :'module', 'token', :'token', 'pin_file', :'pin_file',
	'environment', jsonb_build_object('SOFTHSM2_CONF', :'conf')) AS good \gset

SELECT seal.add_provider('p1', 'pkcs11', :'good');
SELECT provider, kind, config = :'good' AS config, keyrings, created_at = altered_at AS unaltered FROM seal.providers;
SELECT endpoint LIKE '%' || :'token' || '%' AS endpoint, ok, latency_ms >= 0 AS latency, certificate_expires, detail <> '' AS detail
FROM seal.check_provider('p1');

-- what is malformed is an error and leaves nothing behind
\set VERBOSITY terse
SELECT seal.add_provider('p1', 'pkcs11', :'good');
SELECT seal.add_provider('p2', 'abacus', :'good');
SELECT seal.add_provider('p2', 'pkcs11', '[]');
SELECT seal.add_provider('p2', 'pkcs11', '"text"');
SELECT seal.add_provider('p2', 'pkcs11', NULL);
SELECT seal.add_provider(NULL, 'pkcs11', :'good');
SELECT seal.add_provider('', 'pkcs11', :'good');
SELECT seal.add_provider(' p2', 'pkcs11', :'good');
SELECT seal.add_provider(E'p\n2', 'pkcs11', :'good');
SELECT seal.add_provider(repeat('p', 64), 'pkcs11', :'good');
SELECT seal.add_provider('p2', 'pkcs11', jsonb_build_object('module', repeat('x', 20000)));
SELECT seal.add_provider('p2', 'pkcs11', (repeat('{"a":', 100) || '1' || repeat('}', 100))::jsonb);
SELECT seal.alter_provider('absent', :'good');
SELECT seal.drop_provider('absent');
SELECT * FROM seal.check_provider('absent');
SELECT * FROM seal.check_provider(NULL);
SELECT provider FROM seal.providers;

-- a PIN has no place in SQL, and the message does not repeat it
DO $$
BEGIN
	PERFORM seal.add_provider('p2', 'pkcs11', '{"module": "/x", "token": "t", "pin": "1234567"}');
	RAISE 'accepted';
EXCEPTION WHEN invalid_parameter_value THEN
	RAISE NOTICE 'refused, PIN repeated: %', sqlerrm LIKE '%1234567%';
END $$;
SELECT count(*) FROM seal.audit_log WHERE detail::text LIKE '%1234567%';

-- what cannot be reached is recorded, with a warning that names the reason
SELECT seal.add_provider('p2', 'pkcs11', jsonb_set(:'good', '{module}', '"/nonexistent/module.so"'));
SELECT ok, detail <> '' AS detail FROM seal.check_provider('p2');
SET client_min_messages = error; -- the warning names what lies on this machine
SELECT seal.alter_provider('p2', jsonb_set(:'good', '{token}', '"no such token"'));
SELECT ok, detail ~ 'no such token.* is not present' AS named FROM seal.check_provider('p2');
SELECT seal.alter_provider('p2', :'good');
SELECT bool_and(ok) FROM seal.check_provider('p2');
SELECT provider, altered_at > created_at AS altered FROM seal.providers ORDER BY 1;

-- a definition is not undone by ROLLBACK
BEGIN;
SELECT seal.drop_provider('p2');
ROLLBACK;
SELECT provider FROM seal.providers;

-- refused where nothing may change
BEGIN READ ONLY;
SELECT seal.drop_provider('p1');
ROLLBACK;

-- refused while a keyring uses it
SELECT seal.create_keyring('k1', 'p1');
SELECT seal.drop_provider('p1');
-- another token that answers, but does not hold the keyring's key
\getenv token2 SEAL_TOKEN2
\set VERBOSITY sqlstate
SELECT seal.alter_provider('p1', jsonb_set(:'good', '{token}', to_jsonb(:'token2'::text)));
\set VERBOSITY terse
SELECT config = :'good' AS unchanged FROM seal.providers;
SELECT seal.drop_keyring('k1');
SELECT seal.drop_provider('p1');
SELECT count(*) FROM seal.providers;
