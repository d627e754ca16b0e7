#!/usr/bin/env bash
# What sealing WAL costs: one stock server, whose WAL is sealed and written in clear by turns, in short runs, so that what else the machine does meets
# all sides alike. Each figure is the median of the ratios of neighbouring runs.
#
#   test/bench/wal_bench.sh ROUNDS      (called by `make bench` inside a private copy of the server, as an unprivileged user)
#
# Sides: plain: WAL and data in clear; wal: WAL sealed, data in clear; all: WAL and data sealed.
# Needs in the environment: PATH with the server's programs first, WORK (a directory of ours). BENCH_SECONDS for each run, BENCH_SCALE, BENCH_CLIENTS,
# BENCH_ROWS of the bulk load.
set -eu
ROUNDS=${1:-5}
SCALE=${BENCH_SCALE:-20}
SECONDS_EACH=${BENCH_SECONDS:-10}
CLIENTS=${BENCH_CLIENTS:-4}
ROWS=${BENCH_ROWS:-1000000}
. "$(dirname "$0")/bench_cluster.sh"
cat >>"$DATA/postgresql.conf" <<CONF
shared_buffers = 512MB
max_wal_size = 16GB
min_wal_size = 2GB
checkpoint_timeout = 1h
autovacuum = off
pg_seal.plain_wal_conversion = allow
CONF
bench_start
sql -c "CREATE TABLESPACE sealed LOCATION '$WORK/sealed'" -c "CREATE TABLESPACE plain LOCATION '$WORK/plain'" -c "SELECT seal.encrypt_tablespace('sealed')" >/dev/null 2>&1
for side in plain sealed; do
	sql -c "CREATE DATABASE bench_$side TABLESPACE $side" >/dev/null
	pgbench -h "$WORK" -p "$PORT" -i -q -s "$SCALE" "bench_$side" >/dev/null 2>&1
	sql -d "bench_$side" -c 'CREATE TABLE bulk (i int, a text, b text)' -c VACUUM
done
sql -c "COPY (SELECT i, md5(i::text), repeat('x', 60) FROM generate_series(1, $ROWS) i) TO '$WORK/rows'"

declare -A DATABASE=([plain]=bench_plain [wal]=bench_plain [all]=bench_sealed)
sealed_now=
# Takes a side: WAL in its form, everything before it written.
take() {
	local wanted=1
	[ "$1" != plain ] || wanted=
	if [ "$wanted" != "$sealed_now" ]; then
		if [ "$wanted" ]; then sql -c 'SELECT seal.enable_wal_encryption()'; else sql -c 'SELECT seal.disable_wal_encryption()'; fi >/dev/null
		sealed_now=$wanted
	fi
	sql -c CHECKPOINT
}

# Processor time of the server up to now, in seconds: the postmaster with the children it has seen the end of, and those that live. What else
# the machine does moves it far less than the clock.
ticks=$(getconf CLK_TCK)
processor_time() {
	local postmaster
	read -r postmaster <"$DATA/postmaster.pid"
	cat "/proc/$postmaster/stat" $(pgrep -P "$postmaster" | sed 's#.*#/proc/&/stat#') 2>/dev/null |
		sed 's/^[0-9]* (.*) //' | awk -v t="$ticks" 'NR == 1 {s = $14 + $15} {s += $12 + $13} END {printf "%.3f\n", s / t}'
}

# ratios NAME UNIT COLUMN: of both sealed sides to the plain one.
ratios() {
	local name=$1 unit=$2 column=$3 side
	for side in wal all; do
		paste "$WORK/plain.out" "$WORK/$side.out" | awk -v c="$column" '{print $(c + 2) / $c}' >"$WORK/ratio.out"
		awk -v n="$name" -v u="$unit" -v w="$side" -v p="$(awk -v c="$column" '{print $c}' "$WORK/plain.out" | median)" \
			-v s="$(awk -v c="$column" '{print $c}' "$WORK/$side.out" | median)" -v r="$(median <"$WORK/ratio.out")" \
			-v l="$(sort -n "$WORK/ratio.out" | head -n 1)" -v h="$(sort -n "$WORK/ratio.out" | tail -n 1)" \
			'BEGIN {printf "%-46s %-4s plain %9.1f  %-3s %9.1f  ratio %.3f (%.2f to %.2f)\n", n, u, p, w, s, r, l, h}'
	done
}

# compare NAME UNIT MEASURE: the measure prints, for a database, a figure and the number of transactions (or 1) it stands for; alternates
# the sides, each round in another order.
compare() {
	local name=$1 unit=$2 measure=$3 i side before figure
	local -a order
	for side in plain wal all; do : >"$WORK/$side.out"; done
	for ((i = 0; i < ROUNDS; i++)); do
		case $((i % 3)) in 0) order=(plain wal all) ;; 1) order=(all wal plain) ;; 2) order=(wal all plain) ;; esac
		for side in "${order[@]}"; do
			take "$side"
			before=$(processor_time)
			figure=$("$measure" "${DATABASE[$side]}")
			awk -v f="$figure" -v b="$before" -v a="$(processor_time)" 'BEGIN {split(f, v, " "); print v[1], (a - b) * 1000 / v[2]}' >>"$WORK/$side.out"
		done
	done
	ratios "$name" "$unit" 1
	ratios "  processor time of the server, each" ms 2
}

tpcb() {
	pgbench -h "$WORK" -p "$PORT" -n -c "$CLIENTS" -j 2 -T "$SECONDS_EACH" "$@" 2>/dev/null |
		sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p; s/^tps = \([0-9.]*\).*/\1/p' | { read -r number && read -r rate && echo "$rate $number"; }
}
tpcb_sync() { PGOPTIONS='-c synchronous_commit=on' tpcb "$1"; }
tpcb_async() { PGOPTIONS='-c synchronous_commit=off' tpcb "$1"; }
bulk() {
	sql -d "$1" -c 'TRUNCATE bulk' -c CHECKPOINT
	printf "\\\\timing on\nCOPY bulk FROM '%s';\n" "$WORK/rows" | sql -d "$1" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1 1/p'
}

echo "scale $SCALE, $CLIENTS clients, $ROUNDS rounds of $SECONDS_EACH s, medians; ratio to plain: median of the ratios of a round (least to greatest)"
compare 'TPC-B, synchronous_commit on' tps tpcb_sync
compare 'TPC-B, synchronous_commit off' tps tpcb_async
compare "COPY of $ROWS rows" ms bulk
