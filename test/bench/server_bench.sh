#!/usr/bin/env bash
# Server-level benchmark: a sealed tablespace against a plain one in the SAME stock server, run alternately, so that every figure is
# a ratio measured side by side. Data checksums on, small shared_buffers (every scan reads from the operating system's cache,
# which leaves the cipher nothing to hide behind).
#
#   test/bench/server_bench.sh ROUNDS      (called by `make bench` inside a private copy of the server, as an unprivileged user)
#
# Needs in the environment: PATH with the server's programs first, WORK (a directory of ours).
set -eu
ROUNDS=${1:-5}
ROWS=${BENCH_ROWS:-4000000}
SCALE=${BENCH_SCALE:-20}
SECONDS_EACH=${BENCH_SECONDS:-15}
. "$(dirname "$0")/bench_cluster.sh"
cat >>"$DATA/postgresql.conf" <<CONF
shared_buffers = 16MB
max_wal_size = 8GB
checkpoint_timeout = 1h
autovacuum = off
max_parallel_workers_per_gather = 0
synchronous_commit = ${BENCH_SYNC_COMMIT:-off}
CONF
bench_start
sql -c "CREATE TABLESPACE sealed LOCATION '$WORK/sealed'" -c "CREATE TABLESPACE plain LOCATION '$WORK/plain'" \
	-c "SELECT seal.encrypt_tablespace('sealed')" >/dev/null 2>&1

milliseconds() { # of one statement, by psql's own clock
	printf '\\timing on\n%s\n' "$1" | sql | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | tail -n 1
}
# compare NAME UNIT COMMAND-THAT-PRINTS-A-NUMBER-FOR-$1: alternates plain and sealed; prints both medians and their ratio.
compare() {
	local name=$1 unit=$2 measure=$3 i side
	: >"$WORK/plain.out"; : >"$WORK/sealed.out"
	for ((i = 0; i < ROUNDS; i++)); do
		for side in plain sealed; do "$measure" "$side" >>"$WORK/$side.out"; done
	done
	awk -v n="$name" -v u="$unit" -v p="$(median <"$WORK/plain.out")" -v s="$(median <"$WORK/sealed.out")" \
		'BEGIN {printf "%-44s plain %10.1f %-4s sealed %10.1f %-4s ratio %.3f\n", n, p, u, s, u, s / p}'
}

for side in plain sealed; do
	sql -c "CREATE TABLE t_$side TABLESPACE $side AS SELECT i, md5(i::text) AS a, repeat('x', 60) AS b FROM generate_series(1, $ROWS) i" \
		-c "VACUUM (FREEZE, ANALYZE) t_$side" -c CHECKPOINT
done
bytes=$(sql -c "SELECT pg_relation_size('t_sealed')")
echo "table of $((bytes / 1048576)) MiB, shared_buffers 16MB, data checksums on, synchronous_commit ${BENCH_SYNC_COMMIT:-off}, $ROUNDS rounds, medians"

scan() { milliseconds "SELECT count(*) FROM t_$1;"; }
compare "sequential scan, cold buffers" ms scan
# What the bare cipher takes for those bytes on this machine, for the scan's extra time.
bare=$(openssl speed -elapsed -seconds 2 -bytes 8192 -evp aes-256-xts -decrypt 2>/dev/null | awk '/^AES-256-XTS/ {sub("k", "", $2); print $2 * 1000}')
awk -v p="$(median <"$WORK/plain.out")" -v s="$(median <"$WORK/sealed.out")" -v b="$bytes" -v rate="$bare" 'BEGIN {
	cipher = b / rate * 1000
	printf "  extra time of the scan %.1f ms; bare AES-256-XTS for the same bytes %.1f ms; ratio %.2f\n", s - p, cipher, (s - p) / cipher}'

ctas() {
	sql -c "DROP TABLE IF EXISTS c_$1" -c CHECKPOINT
	printf '\\timing on\nCREATE TABLE c_%s TABLESPACE %s AS SELECT * FROM t_%s;\nCHECKPOINT;\n' "$1" "$1" "$1" | sql |
		sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | awk '{t += $1} END {print t}'
}
compare "CREATE TABLE AS, then CHECKPOINT" ms ctas

for side in plain sealed; do
	sql -c "CREATE DATABASE bench_$side TABLESPACE $side" >/dev/null
	pgbench -h "$WORK" -p "$PORT" -i -q -s "$SCALE" "bench_$side" >/dev/null 2>&1
	sql -d "bench_$side" -c VACUUM -c CHECKPOINT
done
tps() { pgbench -h "$WORK" -p "$PORT" -n -c 2 -j 2 -T "$SECONDS_EACH" "$@" 2>/dev/null | sed -n 's/^tps = \([0-9.]*\).*/\1/p'; }
select_only() { tps -S "bench_$1"; }
tpcb() { sql -c CHECKPOINT; tps "bench_$1"; }
compare "pgbench -S, scale $SCALE, 2 clients" tps select_only
compare "pgbench TPC-B, scale $SCALE, 2 clients" tps tpcb

sql -c "CREATE FUNCTION key_cache_hit_ns(regclass[], int) RETURNS float8 AS '\$libdir/pg_seal', 'pg_seal_key_cache_hit_ns' LANGUAGE C STRICT"
for i in 1 2 3 4 5 6 7 8; do sql -c "CREATE TABLE k_$i (i int) TABLESPACE sealed"; done
hit() { sql -c "SELECT round(key_cache_hit_ns($1, 5000000)::numeric, 1)"; }
echo "key cache hit: $(hit "'{k_1}'") ns for one relation, $(hit "'{k_1,k_2,k_3,k_4,k_5,k_6,k_7,k_8}'") ns for eight in turn"
