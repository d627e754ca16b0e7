# How the tour looks. Sourced by demo/run. Colour, and a bar that moves, only on a terminal.
if [ -t 1 ]; then WATCHED=1; else WATCHED=; fi
if [ -n "$WATCHED" ] && [ -z "${NO_COLOR:-}" ]; then
	BOLD=$'\e[1m' DIM=$'\e[2m' GREEN=$'\e[32m' CYAN=$'\e[36m' RED=$'\e[31m' PLAIN=$'\e[0m'
else
	BOLD='' DIM='' GREEN='' CYAN='' RED='' PLAIN=''
fi
STEP=0

heading() { STEP=$((STEP + 1)); printf '\n%s%2d. %s%s\n' "$BOLD" "$STEP" "$*" "$PLAIN"; }
say() { printf '    %s\n' "$*"; }
note() { printf '    %s%s%s\n' "$DIM" "$*" "$PLAIN"; }
good() { printf '  %s✓%s %s\n' "$GREEN" "$PLAIN" "$*"; }
bad() { printf '  %s!%s %s\n' "$RED" "$PLAIN" "$*"; }
show() { printf "    $CYAN%s$PLAIN\n" "$@"; }

# Standard input, moved to the right and wrapped: what a program says.
quote() { fold -s -w "${1:-112}" | sed 's/^/      /; s/ *$//'; }

# Bytes as hexadecimal and as text, from standard input: show_bytes 'what they are'
show_bytes() {
	say "$1"
	od -A n -t x1z -v | sed 's/^/      /'
}

# bar DONE TOTAL 'text': on a terminal one line that is drawn again; elsewhere a line at each further tenth.
BAR_TENTH=-1
bar() {
	local percent=0 filled width=30 line
	[ "$2" -le 0 ] || percent=$(($1 * 100 / $2))
	filled=$((percent * width / 100))
	line=$(printf '%*s' "$filled" '' | sed 's/ /█/g')$(printf '%*s' $((width - filled)) '' | sed 's/ /░/g')
	if [ -n "$WATCHED" ]; then
		printf '\r    %s%s%s %3d%%  %.80s\e[K' "$GREEN" "$line" "$PLAIN" "$percent" "$3"
	elif [ $((percent / 10)) -ne "$BAR_TENTH" ]; then
		printf '    %s %3d%%  %s\n' "$line" "$percent" "$3"
	fi
	BAR_TENTH=$((percent / 10))
}
bar_end() { [ -z "$WATCHED" ] || printf '\n'; BAR_TENTH=-1; }

# Numbers on standard input, one a line, as a row of small columns; a line "|" parts them.
columns() {
	awk '{ v[NR] = $1; if ($1 != "|" && $1 + 0 > top) top = $1 + 0 }
		END {
			split("▁ ▂ ▃ ▄ ▅ ▆ ▇ █", c, " ")
			for (i = 1; i <= NR; i++) {
				level = (top > 0) ? int(v[i] / top * 7.99) + 1 : 1
				printf "%s", (v[i] == "|") ? "  " : c[level]
			}
		}'
}
