# How the tour looks. Sourced by demo/run. Colour only on a terminal.
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
	BOLD=$'\e[1m' DIM=$'\e[2m' GREEN=$'\e[32m' CYAN=$'\e[36m' PLAIN=$'\e[0m'
else
	BOLD='' DIM='' GREEN='' CYAN='' PLAIN=''
fi
STEP=0

heading() { STEP=$((STEP + 1)); printf '\n%s%2d. %s%s\n' "$BOLD" "$STEP" "$*" "$PLAIN"; }
say() { printf '    %s\n' "$*"; }
note() { printf '    %s%s%s\n' "$DIM" "$*" "$PLAIN"; }
good() { printf '  %s✓%s %s\n' "$GREEN" "$PLAIN" "$*"; }
show() { printf "    $CYAN%s$PLAIN\n" "$@"; }
