# The demo's server: started, stopped, killed, asked, and looked at from outside. Sourced by demo/run, which sets DEMO, DATA and PORT.

run() { "${SERVER_PREFIX[@]}" PGHOST="$DEMO" PGPORT="$PORT" PGDATABASE=demo SOFTHSM2_CONF="$DEMO/softhsm2.conf" "$@"; }
sql() { run psql -qX -v ON_ERROR_STOP=1 -P pager=off -P border=1 "$@"; }
value() { sql -At -c "$1"; }
table() { sql -c "$1" | cut -c 1-140 | sed 's/^/    /; s/ *$//'; }
look() { show "$1;"; table "$1"; }
setting() { sql -c "ALTER SYSTEM SET $1" -c 'SELECT pg_reload_conf()' -o /dev/null; }

start() { run pg_ctl -D "$1" -l "$1.log" -w -t 60 start >/dev/null 2>&1 || { tail -n 20 "$1.log"; die 'the server does not start'; }; }
stop() { run pg_ctl -D "$1" -m fast -w -t 60 stop >/dev/null 2>&1 || die 'the server does not stop'; }

# stop_server DIRECTORY: by the process id in its own file, whatever state it is in.
stop_server() {
	local pid waited=0
	pid=$(head -n 1 "$1/postmaster.pid" 2>/dev/null) || return 0
	[ -n "$pid" ] || return 0
	kill -INT "$pid" 2>/dev/null || return 0
	while kill -0 "$pid" 2>/dev/null && [ "$waited" -lt 100 ]; do sleep 0.1; waited=$((waited + 1)); done
	kill -0 "$pid" 2>/dev/null && kill -QUIT "$pid" 2>/dev/null
	return 0
}

# Every process of the server, killed with signal 9 as when the power fails.
pull_the_plug() {
	local pid
	pid=$(run head -n 1 "$DATA/postmaster.pid")
	run sh -c 'children=$(cat /proc/$1/task/*/children); kill -9 $1 $children' - "$pid"
	# Killed, but perhaps not yet collected by its parent: a new postmaster would take it for a running one.
	for _ in {1..100}; do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
	if kill -0 "$pid" 2>/dev/null && grep -q '^State:.*zombie' "/proc/$pid/status"; then run rm -f "$DATA/postmaster.pid"; fi
}

# files_with TEXT DIRECTORY...: how many files hold it. WAL is looked at by itself.
files_with() {
	local text=$1
	shift
	run grep -raFl --exclude-dir=pg_wal -- "$text" "$@" 2>/dev/null | wc -l
}
wal_files_with() { run grep -raFl -- "$1" "$DATA/pg_wal" 2>/dev/null | wc -l; }
found() { if [ "$1" -eq 0 ]; then echo 'not found'; elif [ "$1" -eq 1 ]; then echo 'in 1 file'; else echo "in $1 files"; fi; }

# --- operations ---

# watch_operation ID [PERCENT]: draws its progress until it is done, or has come so far.
watch_operation() {
	local state pages total rate left place text
	while :; do
		IFS='|' read -r state pages total rate left place < <(value "SELECT state, pages_done, pages_total, coalesce(nullif(round(rate_mb_s), 0)::text, '-'),
			coalesce(greatest(round(extract(epoch FROM time_left)), 1)::text, '-'), coalesce(database || ': ' || coalesce(relation || ', ', '') || phase, detail, '')
			FROM seal.operations WHERE id = $1")
		case $state in
		done) bar 1 1 "$pages pages"; bar_end; return ;;
		pending | running) ;;
		*) bar_end; sql -c "SELECT * FROM seal.operations WHERE id = $1" -x; die "operation $1 is $state" ;;
		esac
		text=
		[ "$rate" = - ] || text="$rate MB/s"
		[ -z "$text" ] || [ "$left" = - ] || [ "$pages" -ge "$total" ] || text+=", $left s left"
		bar "$pages" "$total" "$(printf '%-20s %s' "$text" "$place")"
		if [ -n "${2:-}" ] && [ $((pages * 100)) -ge $((total * $2)) ]; then bar_end; return; fi
		sleep 0.3
	done
}

# --- a load beside it: pgbench's bank, two clients ---

load_begin() {
	run rm -f "$DEMO/load.out" "$DEMO/load.pid"
	run sh -c 'pgbench -n -c 2 -j 1 -T 600 -P 1 --progress-timestamp demo >/dev/null 2>"$1/load.out" &
		echo $! >"$1/load.pid"; wait' - "$DEMO" &
	LOAD=$!
}
load_end() {
	[ -n "${LOAD:-}" ] || return 0
	kill "$(cat "$DEMO/load.pid" 2>/dev/null)" 2>/dev/null
	wait "$LOAD" 2>/dev/null
	LOAD=
}
load_had_errors() { grep -qE 'ERROR|FATAL|PANIC|aborted' "$DEMO/load.out"; }
# load_figures FROM TO: "transactions-a-second milliseconds" of the whole seconds in between.
load_figures() {
	awk -v from="$1" -v to="$2" '/^progress:/ { if ($2 - 1 >= from && $2 <= to) { n++; tps += $4; lat += $4 * $7 } }
		END { if (n == 0 || tps == 0) exit 1; printf "%.0f %.1f\n", tps / n, lat / tps }' "$DEMO/load.out"
}
# load_columns T0 T1 T2 T3: second by second, the three windows apart.
load_columns() {
	awk -v t0="$1" -v t1="$2" -v t2="$3" -v t3="$4" '/^progress:/ && $2 - 1 >= t0 && $2 <= t3 {
			window = ($2 <= t1) ? 1 : ($2 <= t2) ? 2 : 3
			if (last && window != last) print "|"
			last = window
			print $4
		}' "$DEMO/load.out" | columns
}
# What TPC-B promises whatever happens: all balances come to the same sum.
books_balance() {
	value 'SELECT count(DISTINCT s) = 1 FROM (SELECT sum(abalance) FROM pgbench_accounts UNION ALL SELECT sum(tbalance) FROM pgbench_tellers
		UNION ALL SELECT sum(bbalance) FROM pgbench_branches UNION ALL SELECT coalesce(sum(delta), 0) FROM pgbench_history) AS b (s)'
}
now() { date +%s.%N; }
