-- What the SQL functions refuse, by SQLSTATE and message, and that a refusal changes nothing.
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
SELECT set_config('test.good', jsonb_build_object('module', :'module', 'token', :'token', 'pin_file', :'pin_file',
	'environment', jsonb_build_object('SOFTHSM2_CONF', :'conf'))::text, false) AS good \gset
SELECT plan(39);

-- providers
SELECT lives_ok($$SELECT seal.add_provider('tap', 'pkcs11', current_setting('test.good')::jsonb)$$, 'a provider is added');
SELECT is((SELECT config FROM seal.providers WHERE provider = 'tap'), current_setting('test.good')::jsonb, 'its definition is kept as given');
SELECT ok((SELECT ok FROM seal.check_provider('tap')), 'the token answers');
SELECT cmp_ok((SELECT latency_ms FROM seal.check_provider('tap')), '>=', 0::float8, 'and its latency is told');
SELECT throws_ok($$SELECT seal.add_provider('tap', 'pkcs11', '{}')$$, '42710', 'provider "tap" already exists', 'a name is taken once');
SELECT throws_ok($$SELECT seal.add_provider('bad', 'pkcs11', '{}')$$, '22023', NULL, 'an empty definition is malformed');
SELECT throws_ok($$SELECT seal.add_provider('bad', 'pkcs11', '{"module": 1, "token": "t"}')$$, '22023', NULL, 'a number is no module');
SELECT throws_ok($$SELECT seal.add_provider('bad', 'pkcs11', '{"module": "/m", "token": "t", "no_such_member": "x"}')$$, '22023', NULL,
	'an unknown member is malformed');
SELECT throws_ok($$SELECT seal.add_provider('bad', 'pkcs11', '{"uri": "pkcs11:token=t?module-path=/m&pin-value=987654"}')$$, '22023', NULL,
	'a PIN in a URI is refused');
SELECT is((SELECT count(*) FROM seal.audit_log WHERE detail::text LIKE '%987654%'), 0::bigint, 'and is not repeated in the audit log');
SELECT is((SELECT count(*) FROM seal.providers WHERE provider = 'bad'), 0::bigint, 'none of them was recorded');

-- keyrings
SELECT lives_ok($$SELECT seal.create_keyring('tap ring', 'tap')$$, 'a keyring is created');
SELECT ok((SELECT unlocked FROM seal.keyrings WHERE keyring = 'tap ring'), 'it can be used at once');
SELECT is((SELECT kek FROM seal.keyrings WHERE keyring = 'tap ring'), 'tap ring', 'the KEK has the keyring''s name unless told otherwise');
SELECT throws_ok($$SELECT seal.create_keyring('tap ring', 'tap')$$, '42710', 'keyring "tap ring" already exists', 'a name is taken once');
SELECT throws_ok($$SELECT seal.create_keyring('r', 'no such')$$, '42704', 'provider "no such" does not exist', 'it needs a provider');
SELECT throws_ok($$SELECT seal.create_keyring('r', 'tap', create_kek => false, kek => 'no such')$$, '42704', NULL,
	'adopting needs a key of that label');
SELECT throws_ok($$SELECT seal.create_keyring('r', 'tap', protection => 'none')$$, '22023', 'unknown protection "none"',
	'protection is one of two');
SELECT throws_ok($$SELECT seal.create_keyring('r', 'tap', policy => '[]')$$, '22023', NULL, 'a policy is an object');
SELECT throws_ok($$SELECT seal.set_policy('tap ring', 'null')$$, '22023', NULL, 'also when it is set');
SELECT throws_ok($$SELECT seal.drop_provider('tap')$$, '2BP01', 'provider "tap" is in use by keyring "tap ring"',
	'a provider in use is not dropped');
SELECT is((SELECT count(*) FROM seal.keyrings WHERE keyring = 'r'), 0::bigint, 'none of them was recorded');
SELECT is((SELECT array_agg(DISTINCT protection) FROM seal.keyrings WHERE keyring = 'tap ring'), ARRAY['standard'], 'protection defaults to standard');

-- rotation: no key of a relation changes
SELECT is(seal.rotate_kek('tap ring'), 1::bigint, 'a rotation rewraps the one keyring key');
SELECT is((SELECT array_agg(state ORDER BY version) FROM seal.keys WHERE keyring = 'tap ring' AND key_type = 'KEK'),
	ARRAY['deactivated', 'active'], 'the old KEK version is deactivated');
SELECT is((SELECT count(DISTINCT kek_id) FROM seal.keys WHERE keyring = 'tap ring' AND key_type = 'KEK'), 2::bigint, 'the new one is another key');
SELECT throws_ok($$SELECT seal.rotate_kek('no such')$$, '42704', 'keyring "no such" does not exist', 'rotation needs a keyring');

-- waiting in a transaction block (pg_prove's own connection is outside of one here)
BEGIN;
SELECT throws_ok($$SELECT seal.encrypt_tablespace('pg_default', 'tap ring')$$, '25001', NULL, 'no waiting in a transaction block');
SELECT throws_ok($$SELECT seal.decrypt_tablespace('pg_default')$$, '25001', NULL, 'nor to decrypt');
ROLLBACK;
SELECT throws_ok($$SELECT seal.encrypt_tablespace('no such', 'tap ring', false)$$, '42704', NULL, 'the tablespace must exist');
SELECT throws_ok($$SELECT seal.encrypt_tablespace('pg_default', 'no such', false)$$, '42704', 'keyring "no such" does not exist', 'the keyring too');
SELECT throws_ok($$SELECT seal.decrypt_tablespace('pg_default', false)$$, '55000', NULL, 'only what is sealed can be unsealed');
SELECT is((SELECT count(*) FROM seal.tablespaces WHERE sealed AND tablespace = 'pg_default'), 0::bigint, 'no policy was set');

-- every refusal above is on record
SELECT cmp_ok((SELECT count(*) FROM seal.audit_log WHERE result = 'failed' AND database = current_database()), '>=', 15::bigint,
	'refused calls are in the audit log');
SELECT is((SELECT count(*) FROM seal.audit_log a WHERE a.result = 'failed' AND a.detail ->> 'error' IS NULL), 0::bigint,
	'each with its reason');
SELECT is((SELECT count(*) FROM (SELECT seq - lag(seq) OVER (ORDER BY seq) AS step FROM seal.audit_log) s WHERE step <> 1), 0::bigint,
	'records are numbered without a gap');

SELECT lives_ok($$SELECT seal.drop_keyring('tap ring')$$, 'an unused keyring is dropped');
SELECT lives_ok($$SELECT seal.drop_provider('tap')$$, 'then its provider');
SELECT is((SELECT count(*) FROM seal.health WHERE status = 'error'), 0::bigint, 'the server is in good health');
SELECT * FROM finish();
