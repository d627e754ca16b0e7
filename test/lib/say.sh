# Headings, results and their sum. Sourced by test/run.
#
# Every suite ends in exactly one call of `result`; a suite that could not run is a failure with its reason. The sum is
# the last line of the run, alone, so that a program can read it.

declare -a SEAL_RESULTS=()
SEAL_PASSED=0
SEAL_FAILED=0

if [ -t 1 ]; then BOLD=$'\e[1m' RED=$'\e[31m' GREEN=$'\e[32m' PLAIN=$'\e[0m'; else BOLD='' RED='' GREEN='' PLAIN=''; fi

heading() { printf '\n%s== %s ==%s\n' "$BOLD" "$*" "$PLAIN"; }
note() { printf '   %s\n' "$*"; }

# result SUITE PASSED FAILED [REASON]
result() {
	local suite=$1 passed=$2 failed=$3 reason=${4:-}
	SEAL_PASSED=$((SEAL_PASSED + passed))
	SEAL_FAILED=$((SEAL_FAILED + failed))
	local colour=$GREEN
	[ "$failed" -eq 0 ] || colour=$RED
	printf '%s-- %s: %d passed, %d failed%s%s\n' "$colour" "$suite" "$passed" "$failed" "${reason:+ ($reason)}" "$PLAIN"
	SEAL_RESULTS+=("$(printf '%-10s %6d passed %4d failed%s' "$suite" "$passed" "$failed" "${reason:+   $reason}")")
}

# could_not_run SUITE REASON
could_not_run() { result "$1" 0 1 "could not run: $2"; }

summary() {
	heading "summary"
	local line
	for line in "${SEAL_RESULTS[@]}"; do printf '   %s\n' "$line"; done
	printf '\n%d passed, %d failed\n' "$SEAL_PASSED" "$SEAL_FAILED"
	[ "$SEAL_FAILED" -eq 0 ]
}
