#!/usr/bin/env bash
# The SQL suites on one throwaway server: pg_regress over test/sql, pgTAP over test/tap. Runs as the server's user.
#
#   sql_suite.sh WORK COUNTS        writes "PASSED FAILED" to COUNTS
#
# Tests find their surroundings in the environment (psql: \getenv):
#   SEAL_SOFTHSM_MODULE   the PKCS#11 module           SEAL_SOFTHSM_CONF     its configuration file
#   SEAL_TOKEN            label of a token             SEAL_TOKEN2           label of another, empty one
#   SEAL_PIN_FILE         file with the PIN of both    SEAL_TABLESPACE_DIR   a directory for tablespaces; has ts1 ... ts9
# SEAL_MEMCHECK, a directory: the server runs under valgrind, and anything it finds there is one failure more.
set -u
WORK=$1 COUNTS=$2
TREE=$WORK/tree
DATA=$WORK/sql/data
PORT=${SEAL_SQL_PORT:-54329}
umask 077
mkdir -p "$WORK/sql/socket" "$WORK/sql/tokens" "$WORK/sql/out"
passed=0 failed=0
stop() { [ -f "$DATA/postmaster.pid" ] && pg_ctl -D "$DATA" -m fast -w stop >/dev/null 2>&1; }
trap stop EXIT
give_up() { echo "   $*"; echo "0 1" >"$COUNTS"; exit 1; }

export SEAL_SOFTHSM_MODULE=${SEAL_SOFTHSM_MODULE:-/usr/lib/softhsm/libsofthsm2.so}
export SEAL_SOFTHSM_CONF=$WORK/sql/softhsm2.conf SEAL_TOKEN=seal SEAL_TOKEN2=seal2 SEAL_PIN_FILE=$WORK/sql/pin
export SEAL_TABLESPACE_DIR=$WORK/sql/tablespaces
printf 'directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n' "$WORK/sql/tokens" >"$SEAL_SOFTHSM_CONF"
printf '%s' "$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')" >"$SEAL_PIN_FILE"
for token in "$SEAL_TOKEN" "$SEAL_TOKEN2"; do
	SOFTHSM2_CONF=$SEAL_SOFTHSM_CONF softhsm2-util --init-token --free --label "$token" --so-pin 12345678 \
		--pin "$(cat "$SEAL_PIN_FILE")" >/dev/null || give_up "softhsm2-util could not make token $token"
done
mkdir -p "$SEAL_TABLESPACE_DIR"/ts{1..9}

initdb -D "$DATA" -A trust -N -k -U postgres --encoding=UTF8 --locale=C >"$WORK/sql/initdb.log" 2>&1 || {
	cat "$WORK/sql/initdb.log"
	give_up 'initdb failed'
}
cat >>"$DATA/postgresql.conf" <<CONF
shared_preload_libraries = 'pg_seal'
listen_addresses = ''
unix_socket_directories = '$WORK/sql/socket'
port = $PORT
shared_buffers = 16MB
fsync = off
max_connections = 30
wal_level = replica
log_line_prefix = '%m [%p] %q%a '
CONF
server=()
if [ -n "${SEAL_MEMCHECK:-}" ]; then
	mkdir -p "$SEAL_MEMCHECK"
	server=(-p "$TREE/test/lib/postgres_memcheck.sh")
	printf "pg_seal.provider_timeout = '120s'\npg_seal.unlock_timeout = '55s'\n" >>"$DATA/postgresql.conf"
fi
pg_ctl -D "$DATA" -l "$WORK/sql/server.log" "${server[@]}" -w -t 120 start >/dev/null || {
	tail -n 20 "$WORK/sql/server.log"
	give_up 'the server does not start'
}
export PGHOST=$WORK/sql/socket PGPORT=$PORT PGUSER=postgres

# --- pg_regress ---
sql=$(cd "$TREE/test/sql" 2>/dev/null && ls ./*.sql 2>/dev/null | sed -e 's,^\./,,' -e 's,\.sql$,,')
if [ -n "$sql" ]; then
	log=$WORK/sql/regress.log
	# The expected output lies beside test/, where the PGXN layout has it.
	cp -R "$TREE/expected" "$WORK/sql/out/expected"
	"$(pg_config --pkglibdir)/pgxs/src/test/regress/pg_regress" --bindir="$(pg_config --bindir)" \
		--inputdir="$TREE/test" --outputdir="$WORK/sql/out" --host="$PGHOST" --port="$PGPORT" --user=postgres \
		--dbname=seal_regress $sql >"$log" 2>&1
	status=$?
	grep -E '^test ' "$log"
	ok=$(grep -cE '^test .*\.\.\. ok' "$log") bad=$(grep -cE '^test .*\.\.\. (FAILED|failed)' "$log")
	if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; tail -n 20 "$log"; fi
	[ ! -s "$WORK/sql/out/regression.diffs" ] || head -n 200 "$WORK/sql/out/regression.diffs"
	passed=$((passed + ok)) failed=$((failed + bad))
else
	echo '   there is no script in test/sql'
	failed=$((failed + 1))
fi

# --- pgTAP ---
tap=$(ls "$TREE"/test/tap/*.sql 2>/dev/null)
if [ -n "$tap" ]; then
	createdb seal_tap && psql -qXd seal_tap -c 'CREATE EXTENSION pgtap' || failed=$((failed + 1))
	(cd "$TREE" && perl test/lib/tap_harness.pl --counts "$WORK/sql/tap.counts" --pgtap seal_tap test/tap/*.sql)
	if read -r ok bad <"$WORK/sql/tap.counts"; then
		passed=$((passed + ok)) failed=$((failed + bad))
	else
		failed=$((failed + 1))
	fi
else
	echo '   there is no script in test/tap'
	failed=$((failed + 1))
fi

# A backend or the postmaster that died leaves a trace that no query shows.
if grep -E 'PANIC|terminated by signal|server process .* was terminated' "$WORK/sql/server.log"; then
	echo '   a server process died during the suite'
	failed=$((failed + 1))
fi
if [ -n "${SEAL_MEMCHECK:-}" ]; then
	stop # so that every process has written what it found
	if ! ls "$SEAL_MEMCHECK"/* >/dev/null 2>&1; then
		echo '   valgrind wrote no log: it did not run'
		failed=$((failed + 1))
	elif grep -hE '^==[0-9]+== .*(Invalid|uninitialised|overlap|Mismatched|Syscall param)' "$SEAL_MEMCHECK"/*; then
		head -n 60 $(grep -lE '^==[0-9]+== .*(Invalid|uninitialised|overlap|Mismatched|Syscall param)' "$SEAL_MEMCHECK"/*)
		failed=$((failed + 1))
	else
		echo "   valgrind found nothing in $(ls "$SEAL_MEMCHECK" | wc -l) processes"
		passed=$((passed + 1))
	fi
fi
if [ "$failed" -gt 0 ]; then
	echo "--- end of the server's log"
	tail -n 15 "$WORK/sql/server.log"
fi
echo "$passed $failed" >"$COUNTS"
[ "$failed" -eq 0 ]
