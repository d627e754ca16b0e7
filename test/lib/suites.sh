# The suites. Sourced by test/run, which has set ROOT (the checkout), WORK (a directory of the server's user), DEADLINE.
# Each function ends in one result or could_not_run.

# within COMMAND...: stops it when the time of the whole run is over (124).
within() {
	local left=$((DEADLINE - SECONDS))
	[ "$left" -gt 0 ] || return 124
	timeout --kill-after=10 "$left" "$@"
}

# read_counts SUITE FILE STATUS: the result of a program that wrote "PASSED FAILED".
read_counts() {
	local suite=$1 file=$2 status=$3 passed failed
	if [ "$status" -eq 124 ]; then
		could_not_run "$suite" "stopped: the whole run may take $((TIME_LIMIT / 60)) minutes"
	elif read -r passed failed 2>/dev/null <"$file" && [ -n "${failed:-}" ]; then
		[ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
		if [ "$((passed + failed))" -eq 0 ]; then failed=1; fi
		result "$suite" "$passed" "$failed"
	else
		could_not_run "$suite" "it ended with status $status before it counted anything"
	fi
}

suite_layers() {
	heading "layers: who may include whom"
	"$ROOT/test/check_layers" --counts "$PRIVATE/layers.counts"
	read_counts layers "$PRIVATE/layers.counts" $?
}

# run_unit SUITE BUILD: the GoogleTest program, counted test by test, then what else CTest knows (independent programs).
run_unit() {
	local suite=$1 build=$2 passed=0 failed=0 counts status line
	local report=$PRIVATE/$suite.json log=$LOGS/$suite.log
	(cd "$build" && within ./seal_unit --gtest_brief=1 --gtest_output=json:"$report") >"$log" 2>&1
	status=$?
	# A crash leaves no report; a test that skips itself is a failure like any other.
	if counts=$(python3 - "$report" <<'PYTHON'
import json, sys
suites = json.load(open(sys.argv[1]))["testsuites"]
tests = [t for s in suites for t in s["testsuite"]]
bad = [t for t in tests if t.get("failures") or t.get("result") == "SKIPPED"]
print(len(tests) - len(bad), len(bad))
PYTHON
	) 2>/dev/null; then
		read -r passed failed <<<"$counts"
	fi
	if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
	[ "$failed" -eq 0 ] || tail -n 60 "$log"

	(cd "$build" && within ctest --exclude-regex '^seal_unit$' --output-on-failure --no-tests=ignore) >"$log" 2>&1
	status=$?
	line=$(grep -E '[0-9]+ tests? failed out of [0-9]+' "$log" | tail -n 1)
	if [[ $line =~ ([0-9]+)\ tests?\ failed\ out\ of\ ([0-9]+) ]]; then
		passed=$((passed + BASH_REMATCH[2] - BASH_REMATCH[1])) failed=$((failed + BASH_REMATCH[1]))
	elif [ "$status" -ne 0 ]; then
		failed=$((failed + 1))
	fi
	[ "$status" -eq 0 ] || tail -n 60 "$log"
	result "$suite" "$passed" "$failed"
}

# build_unit SUITE BUILD CONFIGURE-OPTION...: 1, with its result told, if it does not build.
build_unit() {
	local suite=$1 build=$2 log=$LOGS/$1-build.log
	shift 2
	if ! { within cmake -S "$ROOT" -B "$build" "$@" && within flock "$ROOT/build/cmake.lock" cmake --build "$build" --parallel "$JOBS"; } >"$log" 2>&1; then
		grep -nE 'error|Error|undefined' "$log" | head -n 20
		tail -n 20 "$log"
		could_not_run "$suite" 'it does not build'
		return 1
	fi
}

suite_unit() {
	heading "unit: the core, without a server"
	build_unit unit "$ROOT/build/cmake" && run_unit unit "$ROOT/build/cmake"
}

suite_sanitize() {
	heading "sanitize: the core under AddressSanitizer and UBSan"
	build_unit sanitize "$ROOT/build/sanitize" -DSEAL_SANITIZE=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo &&
		run_unit sanitize "$ROOT/build/sanitize"
}

suite_format() {
	heading "format: clang-format"
	"$ROOT/test/check_format" --counts "$PRIVATE/format.counts"
	read_counts format "$PRIVATE/format.counts" $?
}

suite_sql() {
	heading "sql: functions, views and data, one server with sealed and plain tablespaces"
	local counts=$WORK/sql.counts
	within "${SERVER_PREFIX[@]}" SEAL_SOFTHSM_MODULE="$SEAL_SOFTHSM_MODULE" \
		bash "$WORK/tree/test/lib/sql_suite.sh" "$WORK" "$counts"
	read_counts sql "$counts" $?
}

suite_memcheck() {
	heading "memcheck: the SQL suites again, the stock server and pg_seal under valgrind"
	local counts=$WORK/memcheck/counts
	"${SERVER_PREFIX[@]}" sh -c 'mkdir -p "$0" && cp -R "$1" "$0/tree"' "$WORK/memcheck" "$WORK/tree"
	within "${SERVER_PREFIX[@]}" SEAL_SOFTHSM_MODULE="$SEAL_SOFTHSM_MODULE" SEAL_MEMCHECK="$WORK/memcheck/found" SEAL_SQL_PORT=54330 \
		bash "$WORK/memcheck/tree/test/lib/sql_suite.sh" "$WORK/memcheck" "$counts"
	read_counts memcheck "$counts" $?
}

suite_tap() {
	heading "tap: crashes, replication, backups, stock tools"
	local counts=$WORK/tap.counts status
	local perl_modules=$STAGE_PGXS/test/perl
	if [ ! -f "$perl_modules/PostgreSQL/Test/Cluster.pm" ]; then
		could_not_run tap "the PostgreSQL::Test modules are not in $("$PG_CONFIG" --pkglibdir)/pgxs (package postgresql-client-15)"
		return
	fi
	local -a scripts=("${TAP_SCRIPTS[@]}")
	[ ${#scripts[@]} -gt 0 ] || mapfile -t scripts < <(cd "$WORK/tree" && ls test/t/*.pl 2>/dev/null)
	if [ ${#scripts[@]} -eq 0 ]; then could_not_run tap 'there is no script in test/t'; return; fi
	within "${SERVER_PREFIX[@]}" SEAL_ROOT="$WORK/tree" \
		TESTDIR="$WORK/tap" PG_TEST_PORT_DIR="$WORK/ports" PG_REGRESS="$STAGE_PGXS/test/regress/pg_regress" \
		SEAL_KILL_ROUNDS="${SEAL_KILL_ROUNDS:-4}" \
		${SEAL_KEEP:+PG_TEST_NOCLEAN=1} PG_TEST_TIMEOUT_DEFAULT=120 SEAL_SOFTHSM_MODULE="$SEAL_SOFTHSM_MODULE" \
		PERL5LIB="$perl_modules:$WORK/tree/test/perl" \
		perl "$WORK/tree/test/lib/tap_harness.pl" --chdir "$WORK/tree" --counts "$counts" --jobs "$JOBS" "${scripts[@]}"
	status=$?
	cp -R "$WORK/tap/tmp_check/log/." "$LOGS/tap/" 2>/dev/null
	read_counts tap "$counts" "$status"
}

suite_core() {
	heading "core: PostgreSQL's own suites, plain, sealed, and while everything is sealed and unsealed"
	local source=$WORK/source
	pg_source_ensure "$ROOT/build/pg_source" "$LOGS/pg_source.log" || { could_not_run core 'the sources of PostgreSQL are not there'; return; }
	note "tests of PostgreSQL $PG_SOURCE_VERSION"
	# The C functions of the regression tests; everything else comes with the packages.
	mkdir -p "$source/src/test"
	cp -R "$PG_SOURCE/src/test/regress" "$PG_SOURCE/src/test/isolation" "$PG_SOURCE/src/test/recovery" "$source/src/test/"
	if ! gcc -O2 -fPIC -shared -I"$("$PG_CONFIG" --includedir-server)" -o "$source/regress.so" "$source/src/test/regress/regress.c" >"$LOGS/regress.log" 2>&1; then
		cat "$LOGS/regress.log"
		could_not_run core 'regress.so does not build'
		return
	fi
	[ "$(id -u)" -ne 0 ] || chown -R "$SERVER_USER" "$source"
	# Some scripts read constants from the server's headers, where the private copy's pg_config says.
	local headers
	headers=$("$PG_CONFIG" --includedir-server)
	mkdir -p "$STAGE${headers%/*}" && ln -sfn "$headers" "$STAGE$headers"
	local suites=${SEAL_CORE_SUITES:-regress isolation recovery} others
	others=$(printf '%s\n' $suites | grep -vx recovery | tr '\n' ' ')
	mkdir -p "$LOGS/core"
	[ -z "$others" ] || run_core core core_regress ${SEAL_CORE_SERVERS:+SEAL_CORE_SERVERS="$SEAL_CORE_SERVERS"} SEAL_CORE_SUITES="$others"
	[ "$others" = "$suites " ] || [ "$others" = "$suites" ] ||
		run_core core-recovery core_recovery ${SEAL_CORE_RECOVERY:+SEAL_CORE_RECOVERY="$SEAL_CORE_RECOVERY"} ${SEAL_KEEP:+SEAL_KEEP=1}
}

# run_core SUITE PROGRAM SETTING...
run_core() {
	local suite=$1 program=$2 counts=$WORK/$2.counts status
	shift 2
	within "${SERVER_PREFIX[@]}" SEAL_SOFTHSM_MODULE="$SEAL_SOFTHSM_MODULE" "$@" bash "$WORK/tree/test/$program" "$WORK" "$WORK/source" "$counts"
	status=$?
	(cd "$WORK/core" && cp -R --parents *.out *.log *-regress *-isolation recovery/*/*.{out,err,results} "$LOGS/core/") 2>/dev/null
	read_counts "$suite" "$counts" "$status"
}
