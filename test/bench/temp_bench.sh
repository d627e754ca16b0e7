#!/usr/bin/env bash
# Temporary files: the same stock server with pg_seal.encrypt_temp_files off and on, alternately, so that every figure is a ratio measured side by
# side. Everything fits into the operating system's cache, which leaves the cipher nothing to hide behind.
#
#   test/bench/temp_bench.sh ROUNDS      (called by test/bench/run inside a private copy of the server, as an unprivileged user)
#
# Needs in the environment: PATH with the server's programs first, WORK (a directory of ours). BENCH_TEMP_ROWS: rows of 100 bytes.
set -eu
ROUNDS=${1:-5}
ROWS=${BENCH_TEMP_ROWS:-1500000}
. "$(dirname "$0")/bench_cluster.sh"
cat >>"$DATA/postgresql.conf" <<CONF
shared_buffers = 256MB
max_wal_size = 8GB
checkpoint_timeout = 1h
autovacuum = off
fsync = off
jit = off
work_mem = 4MB
maintenance_work_mem = 8MB
max_parallel_workers_per_gather = 0
CONF
bench_start
sql -c "CREATE TABLE t AS SELECT i, md5(i::text) || repeat('x', 60) AS s FROM generate_series(1, $ROWS) i" -c "VACUUM (FREEZE, ANALYZE) t" -c CHECKPOINT

# Of the last of some statements, "ELAPSED CPU" in ms: by psql's own clock, and the time the session's process was on a processor (proc(5), schedstat), which
# other load on the machine disturbs less. Parallel workers' processor time is not in it.
measure() {
	{
		printf 'SELECT pg_backend_pid() AS pid \\gset\n%s\n' "$2"
		printf '\\set before `cut -d" " -f1 /proc/:pid/schedstat`\n\\timing on\n%s\n\\timing off\n' "$1"
		printf '\\set after `cut -d" " -f1 /proc/:pid/schedstat`\n\\echo CPU :before :after\n'
	} | sql 2>/dev/null | awk '/^Time:/ {t = $2} /^CPU/ {print t, ($3 - $2) / 1e6}'
}
hash_only='SET enable_mergejoin = off; SET enable_nestloop = off;'
declare -A settings=(
	[sort]='DROP INDEX IF EXISTS k;' [hash]="$hash_only" [index]='DROP INDEX IF EXISTS k;' [window]="SET work_mem = '64kB';" [spool]="SET work_mem = '64kB';"
	[parallel]="$hash_only SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;"
)
declare -A statement=(
	[sort]="SELECT count(*) FROM (SELECT s FROM t ORDER BY s COLLATE \"C\" OFFSET 1) x;"
	[hash]="SELECT count(*) FROM t a JOIN t b USING (s);"
	[parallel]="SELECT count(*) FROM t a JOIN t b USING (s);"
	[window]="SELECT count(a) FROM (SELECT max(s) OVER (ORDER BY i ROWS BETWEEN 20 PRECEDING AND 20 FOLLOWING) AS a
		FROM (SELECT * FROM t ORDER BY i LIMIT $((ROWS / 10))) y) x;"
	[index]="CREATE INDEX k ON t (s COLLATE \"C\");"
	[spool]="WITH c AS MATERIALIZED (SELECT i, s FROM t) SELECT count(*) FROM c a, (SELECT count(*) FROM c) b;"
)
order=(sort hash parallel window index spool)
declare -A title=([sort]='sort' [hash]='hash join' [parallel]='parallel hash join' [window]='window frame over a spilled tuplestore' [index]='CREATE INDEX'
	[spool]='materialized query, read twice')

for ((round = 0; round < ROUNDS; round++)); do
	for side in off on; do
		sql -c "ALTER SYSTEM SET pg_seal.encrypt_temp_files = $side"
		pg_ctl -D "$DATA" -m fast -w -l "$WORK/log" restart >/dev/null
		sql -c 'SELECT count(*) FROM t' >/dev/null # into the buffers
		for what in "${order[@]}"; do measure "${statement[$what]}" "${settings[$what]}" >>"$WORK/$what.$side"; done
	done
done
spilled=$(sql -c "SELECT pg_size_pretty(temp_bytes) FROM pg_stat_database WHERE datname = current_database()")
echo "$ROWS rows, temporary files in the system's cache, $ROUNDS rounds, medians; $spilled of temporary files in the last round"
column() { cut -d' ' -f"$2" "$WORK/$what.$1" | median; }
for what in "${order[@]}"; do
	awk -v n="${title[$what]}" -v p="$(column off 1)" -v s="$(column on 1)" -v pc="$(column off 2)" -v sc="$(column on 2)" 'BEGIN {
		printf "%-40s elapsed: plain %8.1f ms, sealed %8.1f ms, ratio %.3f   processor: plain %8.1f ms, sealed %8.1f ms, ratio %.3f\n", n, p, s, s / p, pc, sc, sc / pc}'
done
