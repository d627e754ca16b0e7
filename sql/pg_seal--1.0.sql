/* pg_seal 1.0: the SQL surface. docs/sql-reference.md describes it. */

\echo Use "CREATE EXTENSION pg_seal" to load this file. \quit

-- Every function below that changes providers, keyrings or policies takes effect at once and is not undone by ROLLBACK: what it
-- changes guards files on disk. Each call is recorded in the audit log before it returns.

-- ---------------------------------------------------------------------------------------------------------------------------
-- providers
-- ---------------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION seal.add_provider(name text, kind text, config jsonb) RETURNS void
	AS 'MODULE_PATHNAME', 'pg_seal_add_provider' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION seal.add_provider(text, text, jsonb) IS
	'records where root keys live; superusers only; takes effect at once and is not undone by ROLLBACK';

CREATE FUNCTION seal.alter_provider(name text, config jsonb) RETURNS void
	AS 'MODULE_PATHNAME', 'pg_seal_alter_provider' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION seal.alter_provider(text, jsonb) IS
	'replaces the definition of a provider; superusers only; takes effect at once and is not undone by ROLLBACK';

CREATE FUNCTION seal.drop_provider(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'pg_seal_drop_provider' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION seal.drop_provider(text) IS
	'forgets a provider that no keyring uses; superusers only; takes effect at once and is not undone by ROLLBACK';

CREATE FUNCTION seal.check_provider(name text,
		OUT endpoint text, OUT ok boolean, OUT latency_ms float8, OUT certificate_expires timestamptz, OUT detail text)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'pg_seal_check_provider' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION seal.check_provider(text) IS
	'asks a provider whether it can be used now: a row for each token or server';

-- ---------------------------------------------------------------------------------------------------------------------------
-- keyrings
-- ---------------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION seal.create_keyring(name text, provider text, kek text DEFAULT NULL, create_kek boolean DEFAULT true,
		protection text DEFAULT 'standard', policy jsonb DEFAULT '{}')
	RETURNS void
	AS 'MODULE_PATHNAME', 'pg_seal_create_keyring' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION seal.create_keyring(text, text, text, boolean, text, jsonb) IS
	'creates a keyring and its KEK inside the provider, or adopts a KEK that is there; takes effect at once and is not undone by ROLLBACK';

CREATE FUNCTION seal.drop_keyring(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'pg_seal_drop_keyring' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION seal.drop_keyring(text) IS
	'drops a keyring that protects nothing; its KEK stays in the provider; takes effect at once and is not undone by ROLLBACK';

CREATE FUNCTION seal.rotate_kek(keyring text) RETURNS bigint
	AS 'MODULE_PATHNAME', 'pg_seal_rotate_kek' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION seal.rotate_kek(text) IS
	'makes a new KEK version inside the provider and wraps the keyring''s keys with it; returns how many; takes effect at once and is not undone by ROLLBACK';

CREATE FUNCTION seal.set_policy(keyring text, policy jsonb) RETURNS void
	AS 'MODULE_PATHNAME', 'pg_seal_set_policy' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION seal.set_policy(text, jsonb) IS
	'replaces the policy of a keyring; takes effect at once and is not undone by ROLLBACK';

-- ---------------------------------------------------------------------------------------------------------------------------
-- page-level encryption
-- ---------------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION seal.encrypt_tablespace(tablespace name, keyring text DEFAULT 'default', wait boolean DEFAULT true) RETURNS bigint
	AS 'MODULE_PATHNAME', 'pg_seal_encrypt_tablespace' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION seal.encrypt_tablespace(name, text, boolean) IS
	'seals a tablespace: what lies in it in place, online, and whatever is created in or moved into it; returns the operation''s id; takes effect at once and is not undone by ROLLBACK';

CREATE FUNCTION seal.decrypt_tablespace(tablespace name, wait boolean DEFAULT true) RETURNS bigint
	AS 'MODULE_PATHNAME', 'pg_seal_decrypt_tablespace' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION seal.decrypt_tablespace(name, boolean) IS
	'unseals a tablespace: what lies in it in place, online, and whatever is created in or moved into it; returns the operation''s id; takes effect at once and is not undone by ROLLBACK';

CREATE FUNCTION seal.pause_operation(id bigint) RETURNS void
	AS 'MODULE_PATHNAME', 'pg_seal_pause_operation' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION seal.pause_operation(bigint) IS
	'stops an operation until it is resumed; what it has begun is finished first; takes effect at once and is not undone by ROLLBACK';

CREATE FUNCTION seal.resume_operation(id bigint) RETURNS void
	AS 'MODULE_PATHNAME', 'pg_seal_resume_operation' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION seal.resume_operation(bigint) IS
	'lets a paused operation go on; takes effect at once and is not undone by ROLLBACK';

CREATE FUNCTION seal.cancel_operation(id bigint) RETURNS void
	AS 'MODULE_PATHNAME', 'pg_seal_cancel_operation' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION seal.cancel_operation(bigint) IS
	'ends an operation: what it has done stays, what it has begun is finished first; takes effect at once and is not undone by ROLLBACK';

CREATE FUNCTION seal.is_encrypted(rel regclass) RETURNS boolean
	AS 'MODULE_PATHNAME', 'pg_seal_is_encrypted' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION seal.is_encrypted(regclass) IS
	'does the relation have a key and no plain page on disk? reads its files; null without storage';

-- ---------------------------------------------------------------------------------------------------------------------------
-- WAL
-- ---------------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION seal.enable_wal_encryption(keyring text DEFAULT 'default') RETURNS integer
	AS 'MODULE_PATHNAME', 'pg_seal_enable_wal_encryption' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION seal.enable_wal_encryption(text) IS
	'seals WAL from the next segment on, which it begins; returns the generation of the WAL key; takes effect at once and is not undone by ROLLBACK';

CREATE FUNCTION seal.disable_wal_encryption() RETURNS void
	AS 'MODULE_PATHNAME', 'pg_seal_disable_wal_encryption' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION seal.disable_wal_encryption() IS
	'writes WAL in clear from the next segment on, which it begins; takes effect at once and is not undone by ROLLBACK';

CREATE FUNCTION seal.rotate_wal_key() RETURNS integer
	AS 'MODULE_PATHNAME', 'pg_seal_rotate_wal_key' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION seal.rotate_wal_key() IS
	'seals WAL with a new key from the next segment on, which it begins; returns its generation; takes effect at once and is not undone by ROLLBACK';

CREATE FUNCTION seal.export_wal_keys() RETURNS text
	AS 'MODULE_PATHNAME', 'pg_seal_export_wal_keys' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION seal.export_wal_keys() IS
	'the WAL keys, still wrapped, for "pgseal exec --from" on another machine; for superusers and roles with REPLICATION that may execute it';

-- ---------------------------------------------------------------------------------------------------------------------------
-- views, and the functions under them
-- ---------------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION seal.list_providers(OUT provider text, OUT kind text, OUT config jsonb, OUT keyrings integer,
		OUT created_at timestamptz, OUT altered_at timestamptz)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'pg_seal_list_providers' LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 10;
COMMENT ON FUNCTION seal.list_providers() IS 'for the view seal.providers';

CREATE VIEW seal.providers AS
	SELECT p.provider, p.kind, p.config, p.keyrings, p.created_at, p.altered_at
	FROM seal.list_providers() AS p;
COMMENT ON VIEW seal.providers IS 'where root keys live; config is shown to superusers only';

CREATE FUNCTION seal.list_keyrings(OUT keyring text, OUT id bigint, OUT provider text, OUT kek text, OUT kek_version integer,
		OUT protection text, OUT state text, OUT unlocked boolean, OUT policy jsonb, OUT created_by text, OUT created_at timestamptz)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'pg_seal_list_keyrings' LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 10;
COMMENT ON FUNCTION seal.list_keyrings() IS 'for the view seal.keyrings';

CREATE VIEW seal.keyrings AS
	SELECT k.keyring, k.id, k.provider, k.kek, k.kek_version, k.protection, k.state, k.unlocked, k.policy, k.created_by, k.created_at
	FROM seal.list_keyrings() AS k;
COMMENT ON VIEW seal.keyrings IS 'keyrings, each with its current KEK';

CREATE FUNCTION seal.list_keys(OUT key_type text, OUT keyring text, OUT version integer, OUT algorithm text, OUT length integer,
		OUT state text, OUT wrapped_by text, OUT mechanism text, OUT provider text, OUT kek text, OUT kek_id text, OUT count bigint,
		OUT created_at timestamptz)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'pg_seal_list_keys' LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 100;
COMMENT ON FUNCTION seal.list_keys() IS 'for the view seal.keys';

CREATE VIEW seal.keys AS
	SELECT k.key_type, k.keyring, k.version, k.algorithm, k.length, k.state, k.wrapped_by, k.mechanism, k.provider, k.kek, k.kek_id,
		k.count, k.created_at
	FROM seal.list_keys() AS k;
COMMENT ON VIEW seal.keys IS
	'key inventory of the cluster: every KEK and keyring key version; data-encryption keys counted in groups, created_at the oldest''s';

CREATE FUNCTION seal.list_policies(OUT tablespace oid, OUT sealed boolean, OUT keyring text, OUT cipher text, OUT since timestamptz,
		OUT set_by text)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'pg_seal_list_policies' LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 10;
COMMENT ON FUNCTION seal.list_policies() IS 'for the view seal.tablespaces';

CREATE VIEW seal.tablespaces AS
	SELECT t.spcname AS tablespace, coalesce(p.sealed, false) AS sealed,
		CASE WHEN p.sealed THEN p.keyring END AS keyring, CASE WHEN p.sealed THEN p.cipher END AS cipher, p.since, p.set_by
	FROM pg_catalog.pg_tablespace AS t LEFT JOIN seal.list_policies() AS p ON p.tablespace = t.oid;
COMMENT ON VIEW seal.tablespaces IS 'every tablespace, and whether it is to be sealed; seal.operations shows how far that is';

CREATE FUNCTION seal.list_operations(OUT id bigint, OUT kind text, OUT target text, OUT state text, OUT pages_done bigint,
		OUT pages_total bigint, OUT keyring text, OUT database text, OUT relation text, OUT phase text, OUT relations_done bigint,
		OUT failed_relations bigint, OUT rate_mb_s float8, OUT time_left interval, OUT wal_bytes bigint, OUT wal_estimate bigint,
		OUT requested_by text, OUT created_at timestamptz, OUT started_at timestamptz, OUT finished_at timestamptz, OUT detail text)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'pg_seal_list_operations' LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 20;
COMMENT ON FUNCTION seal.list_operations() IS 'for the view seal.operations';

CREATE VIEW seal.operations AS
	SELECT o.id, o.kind, o.target, o.state, o.pages_done, o.pages_total, o.keyring, o.database, o.relation, o.phase, o.relations_done,
		o.failed_relations, o.rate_mb_s, o.time_left, o.wal_bytes, o.wal_estimate, o.requested_by, o.created_at, o.started_at,
		o.finished_at, o.detail
	FROM seal.list_operations() AS o;
COMMENT ON VIEW seal.operations IS
	'what converts existing relations: every operation that has not ended, with its progress, and the last 200 that have';

CREATE FUNCTION seal.list_wal_keys(OUT generation integer, OUT keyring text, OUT cipher text, OUT state text, OUT first_lsn pg_lsn,
		OUT first_timeline integer, OUT last_lsn pg_lsn, OUT created_at timestamptz, OUT began_at timestamptz, OUT retired_at timestamptz,
		OUT kept_until timestamptz, OUT unlocked boolean)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'pg_seal_list_wal_keys' LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 10;
COMMENT ON FUNCTION seal.list_wal_keys() IS 'for the view seal.wal_keys';

CREATE VIEW seal.wal_keys AS
	SELECT w.generation, w.keyring, w.cipher, w.state, w.first_lsn, w.first_timeline, w.last_lsn, w.created_at, w.began_at, w.retired_at,
		w.kept_until, w.unlocked
	FROM seal.list_wal_keys() AS w;
COMMENT ON VIEW seal.wal_keys IS
	'generations of the WAL key: no page before first_lsn and no segment from last_lsn on is sealed with it; kept_until null: for ever';

CREATE FUNCTION seal.relation_status(rel oid, OUT keyring text, OUT generation integer, OUT sealed_pages bigint,
		OUT total_pages bigint, OUT state text, OUT plain_pages bigint, OUT zero_pages bigint, OUT cipher text,
		OUT created_at timestamptz)
	RETURNS record
	AS 'MODULE_PATHNAME', 'pg_seal_relation_status' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000;
COMMENT ON FUNCTION seal.relation_status(oid) IS 'for the view seal.relations: reads the relation''s files';

CREATE VIEW seal.relations AS
	SELECT c.oid::pg_catalog.regclass AS relation, t.spcname AS tablespace, s.keyring, s.generation, s.sealed_pages, s.total_pages,
		s.state, s.plain_pages, s.zero_pages, s.cipher, s.created_at
	FROM pg_catalog.pg_class AS c
	JOIN pg_catalog.pg_database AS d ON d.datname = pg_catalog.current_database()
	JOIN pg_catalog.pg_tablespace AS t ON t.oid = CASE WHEN c.reltablespace = 0 THEN d.dattablespace ELSE c.reltablespace END
	CROSS JOIN LATERAL seal.relation_status(c.oid) AS s
	WHERE c.relkind IN ('r', 'i', 'S', 't', 'm');
COMMENT ON VIEW seal.relations IS
	'every relation with storage in the current database, its key and what its pages on disk are; reads the files of those selected';

CREATE FUNCTION seal.read_audit_log(OUT seq bigint, OUT at timestamptz, OUT event text, OUT actor name, OUT role name,
		OUT client text, OUT application text, OUT database text, OUT object text, OUT result text, OUT detail jsonb,
		OUT segment text)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'pg_seal_read_audit_log' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION seal.read_audit_log() IS 'for the view seal.audit_log';

CREATE VIEW seal.audit_log AS
	SELECT a.at, a.event, a.actor, a.role, a.object, a.result, a.detail, a.seq, a.client, a.application, a.database, a.segment
	FROM seal.read_audit_log() AS a;
COMMENT ON VIEW seal.audit_log IS 'what was done on this node with providers, keys and policies, and by whom';

CREATE FUNCTION seal.health_checks(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'pg_seal_health' LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 20;
COMMENT ON FUNCTION seal.health_checks() IS 'for the view seal.health';

CREATE VIEW seal.health AS
	SELECT h.check_name, h.status, h.detail, h.hint
	FROM seal.health_checks() AS h;
COMMENT ON VIEW seal.health IS 'one row per check: ok, info, warning or error, what was found and what to do; asks no provider';

-- ---------------------------------------------------------------------------------------------------------------------------
-- rights: nothing for everybody
-- ---------------------------------------------------------------------------------------------------------------------------

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA seal FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA seal FROM PUBLIC;

-- Monitoring may look at states, not at provider definitions or the audit log. is_encrypted() is not for everybody either: it reads a
-- relation's files whatever the caller's rights on it are, and tells how other people's data is protected.
GRANT USAGE ON SCHEMA seal TO pg_monitor;
GRANT SELECT ON seal.providers, seal.keyrings, seal.keys, seal.tablespaces, seal.relations, seal.operations, seal.wal_keys,
	seal.health
	TO pg_monitor;
GRANT EXECUTE ON FUNCTION seal.list_providers(), seal.list_keyrings(), seal.list_keys(), seal.list_policies(),
	seal.list_operations(), seal.list_wal_keys(), seal.relation_status(oid), seal.health_checks(), seal.is_encrypted(regclass) TO pg_monitor;
