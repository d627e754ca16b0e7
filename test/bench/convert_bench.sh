#!/usr/bin/env bash
# Conversion benchmark: how fast existing data is sealed and unsealed in place, and what that costs a load beside it.
#
#   test/bench/convert_bench.sh ROUNDS      (called by `make bench` inside a private copy of the server, as an unprivileged user)
#
# Needs in the environment: PATH with the server's programs first, WORK (a directory of ours). BENCH_CONVERT_MB: size of the table.
set -eu
ROUNDS=${1:-3}
SIZE_MB=${BENCH_CONVERT_MB:-2000}
SCALE=${BENCH_SCALE:-20}
SECONDS_EACH=${BENCH_SECONDS:-15}
RATE=${BENCH_RATE:-20}
. "$(dirname "$0")/bench_cluster.sh"
cat >>"$DATA/postgresql.conf" <<CONF
shared_buffers = 256MB
max_wal_size = 16GB
checkpoint_timeout = 1h
autovacuum = off
pg_seal.rotation_rate = 0
CONF
bench_start
sql -c "CREATE TABLESPACE data LOCATION '$WORK/sealed'"
sql -c "CREATE TABLE big TABLESPACE data AS SELECT i, md5(i::text) || repeat('x', 900) AS t FROM generate_series(1, $SIZE_MB * 1024) i" \
	-c 'VACUUM (FREEZE) big' -c CHECKPOINT
echo "table of $(sql -c "SELECT pg_size_pretty(pg_table_size('big'))"), shared_buffers 256MB, data checksums on, $ROUNDS rounds, medians"

rate_of() { # encrypt | decrypt: MB/s from the operation's own clock, checkpoint and verification included
	sql -c "SELECT seal.${1}_tablespace('data')" >/dev/null 2>&1
	sql -c "SELECT round(pages_done * 8 / 1024.0 / extract(epoch FROM finished_at - started_at)) FROM seal.operations ORDER BY id DESC LIMIT 1"
}
: >"$WORK/seal.out"; : >"$WORK/unseal.out"
for ((i = 0; i < ROUNDS; i++)); do
	rate_of encrypt >>"$WORK/seal.out"
	rate_of decrypt >>"$WORK/unseal.out"
done
echo "full rate: sealing $(median <"$WORK/seal.out") MB/s, unsealing $(median <"$WORK/unseal.out") MB/s (as much again of WAL; checkpoint and verification included)"
dd if=/dev/zero of="$WORK/disk" bs=1M count=1000 conv=fdatasync 2>&1 | awk '/copied/ {print "for comparison, dd with fdatasync on the same disk: " $(NF-1), $NF}'
rm -f "$WORK/disk"

pgbench -h "$WORK" -p "$PORT" -i -q -s "$SCALE" postgres >/dev/null 2>&1
sql -c VACUUM -c CHECKPOINT -c "ALTER SYSTEM SET pg_seal.rotation_rate = $RATE" -c 'SELECT pg_reload_conf()' >/dev/null
tps() { pgbench -h "$WORK" -p "$PORT" -n -c 2 -j 2 -T "$SECONDS_EACH" postgres 2>/dev/null | sed -n 's/^tps = \([0-9.]*\).*/\1/p'; }
direction=encrypt
beside() {
	local id
	id=$(sql -c "SELECT seal.${direction}_tablespace('data', wait => false)" 2>/dev/null)
	sleep 1
	tps
	sql -c "ALTER SYSTEM SET pg_seal.rotation_rate = 0" -c 'SELECT pg_reload_conf()' >/dev/null
	until [ "$(sql -c "SELECT state FROM seal.operations WHERE id = $id")" = done ]; do sleep 0.5; done
	sql -c "ALTER SYSTEM SET pg_seal.rotation_rate = $RATE" -c 'SELECT pg_reload_conf()' >/dev/null
	if [ "$direction" = encrypt ]; then direction=decrypt; else direction=encrypt; fi
}
tps >/dev/null # warm
: >"$WORK/alone.out"; : >"$WORK/beside.out"
for ((i = 0; i < ROUNDS; i++)); do
	sql -c CHECKPOINT
	tps >>"$WORK/alone.out"
	sql -c CHECKPOINT
	beside >"$WORK/one.out"
	cat "$WORK/one.out" >>"$WORK/beside.out"
	direction=$([ "$(sql -c "SELECT sealed FROM seal.tablespaces WHERE tablespace = 'data'")" = t ] && echo decrypt || echo encrypt)
done
awk -v a="$(median <"$WORK/alone.out")" -v b="$(median <"$WORK/beside.out")" -v r="$RATE" \
	'BEGIN {printf "pgbench TPC-B, 2 clients: alone %.0f tps, beside a conversion at %s MB/s %.0f tps, ratio %.3f\n", a, r, b, b / a}'
