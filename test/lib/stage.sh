# A private copy of the stock server, with pg_seal installed into it. Sourced by test/run and demo/run.
#
# PostgreSQL finds its libraries and files relative to its own binary, so a tree that keeps the layout of the packages under
# another root works as it stands. The system's installation and clusters are only read. The copied programs are the
# package's, byte for byte: stage_is_stock proves it.
#
# Sets: STAGE (the root), STAGE_BIN, STAGE_SHARE, STAGE_PGXS (in it), SERVER_USER, SERVER_PREFIX.

server_user() {
	if [ "$(id -u)" -ne 0 ]; then
		id -un
	elif id postgres >/dev/null 2>&1; then
		echo postgres
	else
		id pg_seal_test >/dev/null 2>&1 || useradd --system --no-create-home --shell /usr/sbin/nologin pg_seal_test
		echo pg_seal_test
	fi
}

# stage_locate ROOT: where the parts are; no file is touched.
stage_locate() {
	STAGE=$1
	PG_CONFIG=${PG_CONFIG:-pg_config}
	STOCK_BIN=$("$PG_CONFIG" --bindir) || return 1
	STOCK_LIB=$("$PG_CONFIG" --pkglibdir)
	STOCK_SHARE=$("$PG_CONFIG" --sharedir)
	STAGE_BIN=$STAGE$STOCK_BIN
	STAGE_SHARE=$STAGE$STOCK_SHARE
	STAGE_PGXS=$STAGE$STOCK_LIB/pgxs/src
	SERVER_USER=$(server_user)
}

stage_copy_server() {
	local from
	for from in "$STOCK_BIN" "$STOCK_LIB" "$STOCK_SHARE"; do
		mkdir -p "$STAGE$from"
		cp -R --preserve=mode,links,timestamps "$from/." "$STAGE$from/" || return 1
	done
	# An installed pg_seal of another build has no place in a test of this one.
	rm -f "$STAGE_BIN/pgseal" "$STAGE$STOCK_LIB/pg_seal.so" "$STAGE$STOCK_LIB/libseal_preload.so" "$STAGE_SHARE"/extension/pg_seal*
}

# stage_is_stock: every program of the package is in the stage unchanged, and the server is the one the package shipped.
stage_is_stock() {
	local program sums
	for program in "$STOCK_BIN"/*; do
		[ "${program##*/}" = pgseal ] || cmp -s "$program" "$STAGE_BIN/${program##*/}" || {
			echo "${program##*/} in the private copy differs from the installed one" >&2
			return 1
		}
	done
	sums=$(grep -hs " ${STOCK_BIN#/}/postgres\$" /var/lib/dpkg/info/postgresql-*.md5sums | cut -d' ' -f1)
	if [ -n "$sums" ] && [ "$(md5sum <"$STAGE_BIN/postgres" | cut -d' ' -f1)" != "$sums" ]; then
		echo 'postgres is not the one that the Debian package shipped' >&2
		return 1
	fi
}

# The words before a command that shall run as the unprivileged user, in a clean environment, private copy first in PATH.
# After stage_locate; WORK is that user's home.
server_prefix() {
	SERVER_PREFIX=()
	[ "$(id -u)" -ne 0 ] || SERVER_PREFIX=(runuser -u "$SERVER_USER" --)
	SERVER_PREFIX+=(env -i --chdir="$WORK" HOME="$WORK" LANG=C.UTF-8 PATH="$STAGE_BIN:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
}

# stage_stop_servers: ends, by process id, whatever still runs a program of the stage.
stage_stop_servers() {
	local signal exe pid found
	for signal in INT QUIT KILL; do
		found=
		for exe in /proc/[0-9]*/exe; do
			case $(readlink "$exe" 2>/dev/null) in "$STAGE"/*) ;; *) continue ;; esac
			pid=${exe#/proc/} pid=${pid%/exe}
			found=1
			kill -s "$signal" "$pid" 2>/dev/null
		done
		[ -n "$found" ] || return 0
		sleep 1
	done
}
