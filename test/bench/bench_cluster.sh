# A throwaway server with pg_seal, a SoftHSM token and a keyring "default", for the benchmarks. Sourced; needs WORK and the server's programs
# in PATH. Append settings to $DATA/postgresql.conf, then bench_start. The server is stopped when the shell exits.
DATA=$WORK/data
PORT=${BENCH_PORT:-6543}
mkdir -p "$WORK/tokens" "$WORK/sealed" "$WORK/plain"
printf 'directories.tokendir=%s/tokens\nobjectstore.backend=file\nlog.level=ERROR\n' "$WORK" >"$WORK/softhsm.conf"
SOFTHSM2_CONF=$WORK/softhsm.conf softhsm2-util --init-token --free --label bench --so-pin 12345678 --pin 87654321 >/dev/null
printf 87654321 >"$WORK/pin"
chmod 600 "$WORK/pin"
initdb -D "$DATA" -A trust -N --data-checksums >/dev/null
cat >>"$DATA/postgresql.conf" <<CONF
shared_preload_libraries = 'pg_seal'
listen_addresses = ''
unix_socket_directories = '$WORK'
port = $PORT
CONF

sql() { psql -h "$WORK" -p "$PORT" -d postgres -X -q -At -v ON_ERROR_STOP=1 "$@"; }
bench_start() {
	trap 'pg_ctl -D "$DATA" -m immediate stop >/dev/null 2>&1 || true' EXIT
	pg_ctl -D "$DATA" -l "$WORK/log" -w start >/dev/null
	sql -c 'CREATE EXTENSION pg_seal' \
		-c "SELECT seal.add_provider('token', 'pkcs11', jsonb_build_object('module', '${SEAL_SOFTHSM_MODULE:-/usr/lib/softhsm/libsofthsm2.so}',
		    'token', 'bench', 'pin_file', '$WORK/pin', 'environment', jsonb_build_object('SOFTHSM2_CONF', '$WORK/softhsm.conf')))" \
		-c "SELECT seal.create_keyring('default', 'token')" >/dev/null
}
median() { sort -n | awk '{v[NR] = $1} END {print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'; }
