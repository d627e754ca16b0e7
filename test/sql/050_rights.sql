-- An ordinary role can call and read nothing; monitoring looks, and changes nothing; a granted role still is no superuser.
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pg_seal;
CREATE ROLE seal_test_nobody;
CREATE ROLE seal_test_monitor IN ROLE pg_monitor;
CREATE ROLE seal_test_custodian;
SELECT seal.add_provider('rights', 'pkcs11', '{"module": "/nonexistent/module.so", "token": "t", "pin_file": "/nonexistent"}');
RESET client_min_messages;

-- every function and view, for everybody and for monitoring
SELECT p.oid::regprocedure AS may_call, r.rolname FROM pg_proc p, pg_roles r
WHERE p.pronamespace = 'seal'::regnamespace AND r.rolname LIKE 'seal\_test\_%' AND has_function_privilege(r.oid, p.oid, 'execute')
ORDER BY r.rolname, p.proname COLLATE "C";
SELECT c.relname AS may_read, r.rolname FROM pg_class c, pg_roles r
WHERE c.relnamespace = 'seal'::regnamespace AND r.rolname LIKE 'seal\_test\_%' AND has_table_privilege(r.oid, c.oid, 'select')
ORDER BY 2, 1;

\set VERBOSITY terse
SET ROLE seal_test_nobody;
SELECT seal.add_provider('x', 'pkcs11', '{}');
SELECT * FROM seal.keys;
SELECT seal.encrypt_tablespace('pg_default');
RESET ROLE;

-- a role that may use the schema still may call nothing
GRANT USAGE ON SCHEMA seal TO seal_test_nobody;
SET ROLE seal_test_nobody;
SELECT seal.add_provider('x', 'pkcs11', '{}');
SELECT seal.alter_provider('x', '{}');
SELECT seal.drop_provider('x');
SELECT * FROM seal.check_provider('x');
SELECT seal.create_keyring('x', 'x');
SELECT seal.drop_keyring('x');
SELECT seal.rotate_kek('x');
SELECT seal.set_policy('x', '{}');
SELECT seal.encrypt_tablespace('pg_default');
SELECT seal.decrypt_tablespace('pg_default');
SELECT seal.pause_operation(1);
SELECT seal.resume_operation(1);
SELECT seal.cancel_operation(1);
SELECT seal.is_encrypted('pg_class');
SELECT * FROM seal.providers;
SELECT * FROM seal.keyrings;
SELECT * FROM seal.keys;
SELECT * FROM seal.tablespaces;
SELECT * FROM seal.relations;
SELECT * FROM seal.operations;
SELECT * FROM seal.audit_log;
SELECT * FROM seal.health;
SHOW pg_seal.audit_directory;
SET pg_seal.cipher = 'aes-128-xts';
SET pg_seal.require_encryption = off;
SET pg_seal.plain_tablespaces = 'pg_default';
SET pg_seal.rotation_rate = 0;
RESET ROLE;

-- monitoring sees that a provider exists, not how it is reached
SET ROLE seal_test_monitor;
SELECT provider, kind, config FROM seal.providers WHERE provider = 'rights';
SELECT count(*) > 0 AS relations FROM seal.relations WHERE relation = 'pg_class'::regclass;
SELECT seal.is_encrypted('pg_class');
SELECT count(*) > 5 AS health FROM seal.health;
SELECT count(*) > 0 AS operations FROM seal.operations;
SELECT seal.cancel_operation(1);
SELECT * FROM seal.audit_log;
SELECT seal.drop_provider('rights');
RESET ROLE;

-- what was granted can be called, but definitions of providers are for superusers alone; the refusal is recorded
GRANT USAGE ON SCHEMA seal TO seal_test_custodian;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA seal TO seal_test_custodian;
SET ROLE seal_test_custodian;
SELECT seal.add_provider('x', 'pkcs11', '{}');
SELECT seal.alter_provider('rights', '{}');
SELECT seal.drop_provider('rights');
SELECT seal.set_policy('absent', '{}');
SELECT ok FROM seal.check_provider('rights');
RESET ROLE;
SELECT event, actor = session_user AS actor, role, object, result, detail ->> 'error' AS error FROM seal.audit_log
WHERE role = 'seal_test_custodian' ORDER BY seq;

-- a name that stands before pg_catalog in the search path changes nothing
CREATE SCHEMA seal_test_trap;
CREATE FUNCTION seal_test_trap.current_database() RETURNS name LANGUAGE sql AS $$ SELECT 'trap'::name $$;
CREATE TABLE seal_test_trap.pg_class (oid oid, reltablespace oid, relkind "char");
SET search_path = seal_test_trap, pg_catalog;
SELECT count(*) > 0 AS relations FROM seal.relations WHERE relation = 'pg_catalog.pg_class'::regclass;
RESET search_path;

SET client_min_messages = warning;
DROP SCHEMA seal_test_trap CASCADE;
SELECT seal.drop_provider('rights');
DROP OWNED BY seal_test_nobody, seal_test_monitor, seal_test_custodian;
DROP ROLE seal_test_nobody, seal_test_monitor, seal_test_custodian;
