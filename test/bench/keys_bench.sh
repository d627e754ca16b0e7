#!/usr/bin/env bash
# What key records cost: creating many relations, starting with many of them, looking one up among many, the memory of a process that uses
# many. A sealed against a plain tablespace in the SAME stock server, run alternately.
#
#   test/bench/keys_bench.sh ROUNDS      (called by `make bench` inside a private copy of the server, as an unprivileged user)
#
# Needs in the environment: PATH with the server's programs first, WORK (a directory of ours), MAKE_MANY_KEYS (the program).
# BENCH_TABLES: relations created in a round.
set -eu
ROUNDS=${1:-5}
TABLES=${BENCH_TABLES:-10000}
. "$(dirname "$0")/bench_cluster.sh"
cat >>"$DATA/postgresql.conf" <<CONF
shared_buffers = 128MB
max_wal_size = 8GB
checkpoint_timeout = 1h
autovacuum = off
max_locks_per_transaction = 512
pg_seal.max_relations = 1500000
CONF
bench_start
sql -c "CREATE TABLESPACE sealed LOCATION '$WORK/sealed'" -c "CREATE TABLESPACE plain LOCATION '$WORK/plain'" \
	-c "SELECT seal.encrypt_tablespace('sealed')" >/dev/null 2>&1

# --- creating ---
# Plain and sealed relations in blocks of a hundred, turn about, by one session: whatever else the machine does meets both alike. The server
# process's own processor time stands beside the time.
stopwatch="SELECT clock_timestamp() AS now, (string_to_array(pg_read_file('/proc/self/stat'), ' '))[14:15]::int[] AS cpu"
statements() { # one|many
	[ "$1" = many ] || echo 'BEGIN;'
	awk -v n="$TABLES" -v how="$1" -v stopwatch="$stopwatch" 'BEGIN {
		for (block = 0; block * 100 < n; block++)
			for (turn = 0; turn < 2; turn++) {
				side = (block + turn) % 2 ? "sealed" : "plain"
				print stopwatch " \\gset begin_"
				for (i = 0; i < 100; i++)
					printf "CREATE TABLE %s_%s_%d (a int) TABLESPACE %s;\n", how, side, block * 100 + i, side
				print stopwatch " \\gset end_"
				printf "\\qecho %s :begin_now :end_now :begin_cpu :end_cpu\n", side
			}
	}'
	[ "$1" = many ] || echo 'COMMIT;'
}
total() { # SIDE: milliseconds, processor milliseconds
	awk -v side="$1" '$1 == side {
		split($3, begin, ":"); split($5, end, ":")
		ms = ((end[1] - begin[1]) * 60 + end[2] - begin[2]) * 60000 + (end[3] - begin[3]) * 1000
		time += ms < 0 ? ms + 86400000 : ms
		gsub("[{},]", " ", $6); gsub("[{},]", " ", $7)
		split($6, was, " "); split($7, is, " ")
		cpu += (is[1] + is[2] - was[1] - was[2]) * 10
	} END {print time, cpu}' "$WORK/create.out"
}
for how in one many; do
	sql -c CHECKPOINT
	statements "$how" >"$WORK/create.sql"
	sql -f "$WORK/create.sql" >"$WORK/create.out"
	read -r plain plain_cpu <<<"$(total plain)"
	read -r sealed sealed_cpu <<<"$(total sealed)"
	awk -v n="CREATE TABLE x $TABLES, $([ "$how" = one ] && echo 'one transaction' || echo 'a transaction each')" -v p="$plain" -v s="$sealed" \
		-v pc="$plain_cpu" -v sc="$sealed_cpu" \
		'BEGIN {printf "%-45s plain %8.0f ms  sealed %8.0f ms  ratio %.3f (CPU %.3f)\n", n, p, s, s / p, sc / pc}'
done

# --- memory of a process that has read a thousand relations, beyond what it takes for as many plain ones ---
for side in plain sealed; do
	sql -c "DO \$\$ BEGIN FOR i IN 1..1000 LOOP EXECUTE format('CREATE TABLE m_${side}_%s TABLESPACE $side AS SELECT 1 AS a', i); END LOOP; END \$\$"
done
private_kb() { # SIDE
	sql <<-SQL | tail -n 1
		DO \$\$ DECLARE x int; BEGIN FOR i IN 1..1000 LOOP EXECUTE format('SELECT a FROM m_${1}_%s', i) INTO x; END LOOP; END \$\$;
		SELECT substring(pg_read_file('/proc/self/smaps_rollup') FROM 'Private_Dirty: *([0-9]+)');
	SQL
}
for side in plain sealed; do
	pg_ctl -D "$DATA" -l "$WORK/log" -w restart >/dev/null # cold buffers: every relation is read from disk
	eval "$side=$(private_kb $side)"
done
echo "memory of a process after reading 1000 relations: plain $plain kB, sealed $sealed kB; $((sealed - plain)) kB for keys and ciphers"

# --- many records ---
sql -c "CREATE FUNCTION key_lookup_ns(int8, int, int) RETURNS float8 AS '\$libdir/pg_seal', 'pg_seal_key_lookup_ns' LANGUAGE C STRICT" \
	-c "CREATE FUNCTION key_cache_hit_ns(regclass[], int) RETURNS float8 AS '\$libdir/pg_seal', 'pg_seal_key_cache_hit_ns' LANGUAGE C STRICT" \
	-c "CREATE TABLE own (i int) TABLESPACE sealed"
KEY_FILE=$DATA/base/$(sql -c "SELECT oid FROM pg_database WHERE datname = 'postgres'")/pg_seal_keys
first_connection() { # milliseconds
	local begin end
	pg_ctl -D "$DATA" -l "$WORK/log" -w restart >/dev/null
	begin=$(date +%s%N)
	sql -c 'SELECT 1' >/dev/null
	end=$(date +%s%N)
	echo "$(((end - begin) / 1000))" | awk '{print $1 / 1000}'
}
measure() { # RECORDS
	local i
	: >"$WORK/start.out"
	for ((i = 0; i < ROUNDS; i++)); do first_connection >>"$WORK/start.out"; done
	printf '%9d records: first connection after a start %6.0f ms' "$1" "$(median <"$WORK/start.out")"
	[ "$1" = 0 ] || printf ', lookup without any cache %5.0f ns' "$(for ((i = 0; i < ROUNDS; i++)); do sql -c "SELECT key_lookup_ns(1000000000, $1, 200000)"; done | median)"
	printf ', cached %4.1f ns\n' "$(for ((i = 0; i < ROUNDS; i++)); do sql -c "SELECT key_cache_hit_ns('{own}', 5000000)"; done | median)"
}
measure 0
made=0
for records in 1000 100000 1000000; do
	pg_ctl -D "$DATA" -w stop >/dev/null
	"$MAKE_MANY_KEYS" "$KEY_FILE" $((records - made)) $((1000000000 + made))
	made=$records
	pg_ctl -D "$DATA" -l "$WORK/log" -w start >/dev/null
	measure "$records"
done
