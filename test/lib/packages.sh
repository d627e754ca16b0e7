# Makes sure that the packages of test/packages are there. Sourced by test/run and demo/run.

packages_listed() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$1"; }

packages_missing() {
	local package
	for package in $(packages_listed "$1"); do
		dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || printf '%s\n' "$package"
	done
}

# packages_ensure LIST LOG: installs as root; otherwise says what to type and returns 1.
packages_ensure() {
	local list=$1 log=$2 missing
	command -v dpkg-query >/dev/null || { echo 'this needs Debian (dpkg-query is not there)' >&2; return 1; }
	missing=$(packages_missing "$list" | tr '\n' ' ')
	[ -n "$missing" ] || return 0
	if [ "$(id -u)" -ne 0 ]; then
		printf 'Some packages are missing. As root:\n\n   apt-get install --no-install-recommends %s\n\n' "$missing" >&2
		return 1
	fi
	printf '   installing: %s\n' "$missing"
	if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } \
		>"$log" 2>&1 </dev/null; then
		tail -n 30 "$log" >&2
		echo 'the packages could not be installed' >&2
		return 1
	fi
}
