-- Keyrings: created, adopted, rotated, dropped, and what is refused.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_seal;
\getenv module SEAL_SOFTHSM_MODULE
\getenv conf SEAL_SOFTHSM_CONF
\getenv token SEAL_TOKEN
\getenv pin_file SEAL_PIN_FILE
SELECT jsonb_build_object('module', :'module', 'token', :'token', 'pin_file', :'pin_file',
	'environment', jsonb_build_object('SOFTHSM2_CONF', :'conf')) AS good \gset
SELECT seal.add_provider('hsm', 'pkcs11', :'good');

SELECT seal.create_keyring('r_one', 'hsm');
SELECT seal.create_keyring('r_two', 'hsm', kek => 'r_two_kek', protection => 'hsm', policy => '{"owner": "payroll"}');
SELECT keyring, provider, kek, kek_version, protection, state, unlocked, policy, created_by = current_user AS mine,
	created_at > now() - interval '1 hour' AS recent
FROM seal.keyrings WHERE keyring LIKE 'r\_%' ORDER BY 1;

-- the inventory: type, algorithm, length, state, who wrapped it, by which mechanism
SELECT key_type, keyring, version, algorithm, length, state, wrapped_by, mechanism <> 'none' AS mechanism, provider, kek,
	kek_id ~ '^[0-9a-f]+$' AS kek_id, count, created_at IS NOT NULL AS created
FROM seal.keys WHERE keyring LIKE 'r\_%' ORDER BY 2, 1, 3;

-- rotating the KEK rewraps, keeps the label, and keeps the old version in the inventory
SELECT seal.rotate_kek('r_one');
SELECT seal.rotate_kek('r_one');
SELECT seal.rotate_kek('r_two');
SELECT key_type, keyring, version, state, wrapped_by, kek FROM seal.keys WHERE keyring LIKE 'r\_%' ORDER BY 2, 1, 3;
SELECT count(DISTINCT kek_id) FROM seal.keys WHERE keyring = 'r_one' AND key_type = 'KEK';
SELECT keyring, kek_version, unlocked FROM seal.keyrings WHERE keyring LIKE 'r\_%' ORDER BY 1;

-- adopting a KEK that is there; one label for several keys is ambiguous
\set VERBOSITY sqlstate
SELECT seal.create_keyring('r_three', 'hsm', kek => 'r_two_kek', create_kek => false);
SELECT seal.create_keyring('r_three', 'hsm', kek => 'nobody made this', create_kek => false);
\set VERBOSITY default
SELECT seal.create_keyring('r_three', 'hsm', kek => 'shared');
SELECT seal.create_keyring('r_four', 'hsm', kek => 'shared', create_kek => false);
SELECT keyring, kek, unlocked FROM seal.keyrings WHERE kek = 'shared' ORDER BY 1;

-- policies
SELECT seal.set_policy('r_one', '{"cryptoperiod": "1 year"}');
SELECT policy FROM seal.keyrings WHERE keyring = 'r_one';

-- refused
\set VERBOSITY terse
SELECT seal.set_policy('r_one', '[1]');
SELECT seal.set_policy('r_one', NULL);
SELECT seal.set_policy('absent', '{}');
SELECT seal.create_keyring('r_one', 'hsm');
SELECT seal.create_keyring('r_five', 'absent');
SELECT seal.create_keyring('r_five', 'hsm', protection => 'strong');
SELECT seal.create_keyring('r_five', 'hsm', policy => '3');
SELECT seal.create_keyring('r_five', NULL);
SELECT seal.create_keyring(NULL, 'hsm');
SELECT seal.create_keyring(repeat('x', 64), 'hsm');
SELECT seal.create_keyring('r_five', 'hsm', create_kek => NULL);
SELECT seal.rotate_kek('absent');
SELECT seal.rotate_kek(NULL);
SELECT seal.drop_keyring('absent');
BEGIN READ ONLY;
SELECT seal.rotate_kek('r_one');
ROLLBACK;
\set VERBOSITY default
SELECT seal.rotate_kek('absent');

-- not undone by ROLLBACK
BEGIN;
SELECT seal.create_keyring('r_six', 'hsm');
ROLLBACK;
SELECT keyring FROM seal.keyrings WHERE keyring = 'r_six';

-- dropped; the KEKs stay in the provider, and ids are not used again
SELECT max(id) AS last_id FROM seal.keyrings \gset
SELECT seal.drop_keyring(keyring) FROM seal.keyrings WHERE keyring LIKE 'r\_%';
SELECT count(*) FROM seal.keyrings WHERE keyring LIKE 'r\_%';
SELECT seal.create_keyring('r_one', 'hsm', kek => 'shared', create_kek => false);
SELECT id > :last_id AS fresh_id FROM seal.keyrings WHERE keyring = 'r_one';
SELECT seal.drop_keyring('r_one');
SELECT seal.drop_provider('hsm');
