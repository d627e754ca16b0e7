# PostgreSQL's own test scripts (src/test/regress, src/test/isolation, src/test/recovery), from the source package of the installed server. Sourced by test/run.
#
# A copy of the system's package sources, turned into deb-src entries, and package lists beside it serve one download and are
# removed: nothing of the system's own configuration is touched, and no root is needed. apt checks the signatures as ever.
# Where the archive no longer has exactly the installed version, the newest of the same major version is taken, and said.
#
# SEAL_POSTGRES_SOURCE, a directory: an unpacked source tree to use instead of a download.

# pg_source_ensure DIR LOG: sets PG_SOURCE (a directory that holds src/test/) and PG_SOURCE_VERSION. Kept in DIR between runs.
pg_source_ensure() {
	local directory=$1 log=$2 package installed version
	if [ -n "${SEAL_POSTGRES_SOURCE:-}" ]; then
		PG_SOURCE=$SEAL_POSTGRES_SOURCE PG_SOURCE_VERSION="of $SEAL_POSTGRES_SOURCE"
		[ -f "$PG_SOURCE/src/test/regress/parallel_schedule" ] || { echo "$PG_SOURCE is no source tree of PostgreSQL" >&2; return 1; }
		return 0
	fi
	package=$(dpkg-query -S "$("$PG_CONFIG" --bindir)/postgres" 2>/dev/null | sed 's/:.*//')
	[ -n "$package" ] || { echo 'the server is of no Debian package: name a source tree in SEAL_POSTGRES_SOURCE' >&2; return 1; }
	installed=$(dpkg-query -W -f='${source:Version}' "$package")
	if ! [ -f "$directory/for-$installed" ] || ! [ -d "$directory/tree/src/test/recovery" ]; then
		rm -rf "$directory"
		mkdir -p "$directory"
		pg_source_fetch "$directory" "$package" "$installed" >"$log" 2>&1 || {
			tail -n 15 "$log" >&2
			printf 'The sources of %s were not to be had. Unpack them yourself:\n\n   apt-get source %s\n\nand name the directory in SEAL_POSTGRES_SOURCE\n' \
				"$package $installed" "$package" >&2
			return 1
		}
	fi
	read -r version <"$directory/for-$installed"
	PG_SOURCE=$directory/tree PG_SOURCE_VERSION=$version
	[ "$version" = "$installed" ] || PG_SOURCE_VERSION="$version, the nearest to $installed that the archive has"
}

pg_source_fetch() {
	local directory=$1 package=$2 installed=$3 apt=$1/apt version source file
	mkdir -p "$apt/parts" "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/download" "$directory/tree"
	for file in /etc/apt/sources.list.d/*.sources; do
		[ ! -f "$file" ] || sed 's/^Types:.*/Types: deb-src/' "$file" >"$apt/parts/${file##*/}"
	done
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ ! -f "$file" ] || sed -n 's/^[[:space:]]*deb[[:space:]]/deb-src /p' "$file" | sort -u >"$apt/parts/${file##*/}.list"
	done
	local -a options=(-q -o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$apt/parts" -o "Dir::State::Lists=$apt/lists"
		-o "Dir::Cache=$apt/cache" -o "APT::Sandbox::User=$(id -un)" -o Debug::NoLocking=1)
	apt-get "${options[@]}" update # other archives in the list may be out of reach: what counts is whether the package is found
	source=$(dpkg-query -W -f='${source:Package}' "$package")
	for version in "$installed" $(apt-cache "${options[@]}" showsrc "$source" | sed -n 's/^Version: //p' | sort -Vru | grep -Fxv "$installed"); do
		rm -f "$apt/download"/*
		(cd "$apt/download" && apt-get "${options[@]}" source --download-only "$source=$version") || continue
		tar -xf "$apt/download"/*.orig.tar.* -C "$directory/tree" --strip-components=1 --wildcards '*/src/test/regress/*' '*/src/test/isolation/*' '*/src/test/recovery/*' || return 1
		rm -rf "$apt"
		echo "$version" >"$directory/for-$installed"
		return 0
	done
	return 1
}
