#!/bin/sh
# postgres under valgrind's memcheck, children included; what it finds goes to $SEAL_MEMCHECK/PID. Used by sql_suite.sh through pg_ctl -p.
exec valgrind --quiet --trace-children=yes --trace-children-skip=/bin/sh --leak-check=no --num-callers=25 \
	--suppressions="$(dirname "$0")/postgres.supp" --log-file="$SEAL_MEMCHECK/%p" postgres "$@"
