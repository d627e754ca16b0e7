-- What the extension offers: names, arguments, comments, and nothing for PUBLIC.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_seal CASCADE;
CREATE EXTENSION pg_seal;
RESET client_min_messages;

SELECT extname, extversion, nspname AS schema, extrelocatable
FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'pg_seal';

SELECT proname, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result
FROM pg_proc p WHERE pronamespace = 'seal'::regnamespace ORDER BY 1, 2;

SELECT c.relname AS view, string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum) AS columns
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'seal'::regnamespace AND c.relkind = 'v' GROUP BY 1 ORDER BY 1;

-- every function and view says what it is; one that changes something says that ROLLBACK does not undo it
SELECT proname FROM pg_proc p WHERE pronamespace = 'seal'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL;
SELECT relname FROM pg_class c WHERE relnamespace = 'seal'::regnamespace AND relkind = 'v'
	AND obj_description(c.oid, 'pg_class') IS NULL;
SELECT proname FROM pg_proc p WHERE pronamespace = 'seal'::regnamespace
	AND proname ~ '^(add|alter|drop|create|rotate|set|encrypt|decrypt)_'
	AND obj_description(p.oid, 'pg_proc') !~ 'takes effect at once and is not undone by ROLLBACK$';

-- none can be called by PUBLIC, none is inlined or folded into a plan, none runs in a parallel worker unless it is harmless
SELECT proname FROM pg_proc p, aclexplode(p.proacl) a WHERE pronamespace = 'seal'::regnamespace AND a.grantee = 0;
SELECT proname FROM pg_proc WHERE pronamespace = 'seal'::regnamespace AND proacl IS NULL;
SELECT relname FROM pg_class c, aclexplode(c.relacl) a WHERE relnamespace = 'seal'::regnamespace AND a.grantee = 0;
SELECT nspname FROM pg_namespace n, aclexplode(n.nspacl) a WHERE nspname = 'seal' AND a.grantee = 0;
SELECT proname FROM pg_proc WHERE pronamespace = 'seal'::regnamespace AND (provolatile <> 'v' OR proparallel = 's' OR prosecdef);

-- it belongs where it is
ALTER EXTENSION pg_seal SET SCHEMA public;
