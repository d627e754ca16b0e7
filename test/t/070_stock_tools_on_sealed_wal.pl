# The server's stock tools read and write sealed WAL when pgseal runs them: pg_waldump, pg_receivewal, pg_basebackup -X stream, pg_verifybackup with its
# WAL check, pg_resetwal, pg_archivecleanup. What they write is what the server would have written, and no text of a row lies in clear.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Tools;
use Test::More;

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
$node->init_seal(checksums => 1, allows_streaming => 1, has_archiving => 1, extra => ['--wal-segsize=1'], conf => 'wal_keep_size = 200MB');
$node->start;
$node->set_up_keys($token);
$node->make_tablespace('secure', sealed => 1);
$node->safe_psql('postgres', 'CREATE EXTENSION pg_walinspect; CREATE TABLE words (id int, word text) TABLESPACE secure');
my $generation = $node->safe_psql('postgres', 'SELECT seal.enable_wal_encryption()');
is($generation, 1, 'WAL is sealed under generation 1');

$node->safe_psql('postgres', "SELECT pg_create_physical_replication_slot(name, true) FROM unnest(ARRAY['here', 'there']) AS name");
my $begin = $node->safe_psql('postgres', 'SELECT pg_current_wal_lsn()');
my $canary = 'canary-in-the-write-ahead-log';
sub some_load
{
	my ($from, $rows) = @_;
	$node->safe_psql('postgres', "INSERT INTO words SELECT g, '$canary-' || g FROM generate_series($from, $from + $rows - 1) g");
}
some_load(1, 20000);
is($node->safe_psql('postgres', 'SELECT seal.rotate_wal_key()'), 2, 'the WAL key is rotated');
some_load(20001, 20000);
my $sum = 'SELECT count(*), sum(id), md5(string_agg(word, \',\' ORDER BY id)) FROM words';
my $expected = $node->safe_psql('postgres', $sum);
my $end = $node->safe_psql('postgres', "SELECT pg_switch_wal()");
some_load(40001, 10);
my $after = $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');

my @generations = segment_generations($node->data_dir . '/pg_wal');
is_deeply([ grep { $_ } @generations ], [ 1, 2 ], 'pg_wal holds segments of both generations');
my @exec = ('pgseal', 'exec', '-D', $node->data_dir, '--');

# --- pg_waldump ---
my ($plain_status, $plain_out, $plain_err) = run_tool('pg_waldump', '-p', $node->data_dir . '/pg_wal', '-s', $begin, '-e', $end);
isnt($plain_status, 0, 'pg_waldump alone cannot read sealed WAL');
my ($status, $dump, $err) = run_tool('pgseal', 'exec', '--', 'pg_waldump', '-p', $node->data_dir . '/pg_wal', '-s', $begin, '-e', $end);
is($status, 0, 'pgseal exec finds the data directory by what pg_waldump is told') or diag $err;
my @dumped = map { /lsn: ([0-9A-F]+\/[0-9A-F]+)/ ? [ canonical_lsn($1), /^rmgr: (\S+)/ ] : () } split /\n/, $dump;
my @asked = map { my ($lsn, $manager) = split /\|/; [ canonical_lsn($lsn), $manager ] } split /\n/,
  $node->safe_psql('postgres', "SELECT start_lsn, resource_manager FROM pg_get_wal_records_info('$begin', '$end') ORDER BY 1");
# pg_waldump names a custom resource manager by its number, the server by its name.
my $same_name = sub { join "\n", map { "$_->[0] " . ($_->[1] =~ /^(custom\d+|pg_seal)$/ ? 'custom' : $_->[1]) } @_ };
pop @dumped if @dumped == @asked + 1;    # pg_waldump also shows the record that crosses the end
is(scalar @dumped, scalar @asked, scalar(@asked) . ' records, as many as the server reads');
ok($same_name->(@dumped) eq $same_name->(@asked), 'the very same ones');

my ($segment) = grep { !/partial/ } map { s{.*/}{}r } (segments_in($node->archive_dir))[-1];
($status, $dump, $err) = run_tool(@exec, 'pg_waldump', $node->archive_dir . "/$segment");
like($dump, qr/^rmgr: /, 'a segment of the archive, with the keys of another directory');

# --- pg_receivewal ---
my $received = PostgreSQL::Test::Utils::tempdir_short();
($status, undef, $err) = run_tool(@exec, 'pg_receivewal', '-D', $received, '-S', 'here', '-d', $node->connstr('postgres'), '--no-loop', '--endpos', $after);
is($status, 0, 'pg_receivewal streams') or diag $err;
my @whole = grep { !/partial/ } map { s{.*/}{}r } segments_in($received);
my ($partial) = glob "$received/*.partial";
ok(@whole > 0 && defined $partial, scalar(@whole) . ' whole segments and a partial one');
my $served = sub { return $node->data_dir . "/pg_wal/$_[0]" };
my $generations = sub { my %seen; $seen{ $_->{generation} } = 1 for grep { $_->{sealed} } wal_pages($_[0]); return join ',', sort keys %seen };
my @same = grep { $generations->("$received/$_") eq $generations->($served->($_)) } @whole;
ok(@same > 1, scalar(@same) . ' of them have the generation that the server gave them');
is_deeply([ grep { slurp_raw("$received/$_") ne slurp_raw($served->($_)) } @same ], [], 'and are byte for byte the server\'s');
is_deeply([ files_holding($canary, $received) ], [], 'no text of a row lies there in clear');
ok((grep { $_->{sealed} } wal_pages($partial)) > 0, 'the partial one is sealed');

# On from the partial segment.
some_load(50001, 3000);
$node->safe_psql('postgres', 'SELECT pg_switch_wal()');
some_load(60001, 10);
my $further = $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
($status, undef, $err) = run_tool(@exec, 'pg_receivewal', '-D', $received, '-S', 'here', '-d', $node->connstr('postgres'), '--no-loop', '--endpos', $further);
is($status, 0, 'pg_receivewal goes on from a partial segment') or diag $err;
my $former = $partial =~ s/.*\/|\.partial//gr;
ok(-e "$received/$former", 'which is whole now');
ok(slurp_raw("$received/$former") eq slurp_raw($served->($former)), 'and the server\'s');

# The keys in a tool that runs are not to be had by its own user.
{
	my ($out, $errors) = ('', '');
	my $idle = IPC::Run::start([ @exec, 'pg_receivewal', '-D', $received, '-S', 'here', '-d', $node->connstr('postgres'), '--no-loop' ], '>', \$out, '2>', \$errors);
	my $pid = $idle->{KIDS}[0]{PID};
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_replication")
	  or die 'pg_receivewal does not stream';
	is(slurp_raw("/proc/$pid/comm"), "pg_receivewal\n", 'pgseal has become the tool');
	unlike(slurp_raw("/proc/$pid/cmdline"), qr/key/i, 'its arguments name no key');
	ok(!open(my $memory, '<', "/proc/$pid/mem"), 'its memory cannot be opened');
	ok(!open(my $environment, '<', "/proc/$pid/environ"), 'nor its environment');
	kill 'INT', $pid;
	eval { $idle->finish };
	is($idle->result(0) || 0, 0, 'a signal reaches it, and its status comes back');
}

# --- pg_basebackup and pg_verifybackup ---
my $copy = SealTest->new('copy');
my $link = (glob $node->data_dir . '/pg_tblspc/*')[0];
my @mapping = ('-T', readlink($link) . '=' . $copy->basedir . '/ts_secure');
mkdir $copy->archive_dir;
($status, undef, $err) = run_tool(@exec, 'pg_basebackup', '-D', $copy->data_dir, '-d', $node->connstr('postgres'), '-X', 'stream', '-c', 'fast', '--no-sync', @mapping);
is($status, 0, 'pg_basebackup -X stream') or diag $err;
my @streamed = segments_in($copy->data_dir . '/pg_wal');
ok(@streamed > 0, 'it brought WAL');
is_deeply([ grep { my @pages = wal_pages($_); !@pages || grep { !$_->{sealed} && !$_->{empty} } @pages } @streamed ], [], 'all of which is sealed');
isnt((run_tool('pg_verifybackup', $copy->data_dir))[0], 0, 'pg_verifybackup alone cannot parse that WAL');
($status, undef, $err) = run_tool('pgseal', 'exec', '--', 'pg_verifybackup', $copy->data_dir);
is($status, 0, 'run by pgseal it can') or diag $err;
$copy->append_conf('postgresql.conf', 'port = ' . $copy->port . "\nunix_socket_directories = '" . $copy->host . "'\narchive_mode = off\n");
$copy->start;
is($copy->safe_psql('postgres', $sum), $node->safe_psql('postgres', $sum), 'the server starts from it with every row');

# --- pg_resetwal ---
$copy->stop;
($status, undef, $err) = run_tool('pgseal', 'exec', '--', 'pg_resetwal', '-f', '-D', $copy->data_dir);
is($status, 0, 'pg_resetwal') or diag $err;
my @left = segments_in($copy->data_dir . '/pg_wal');
is(scalar @left, 1, 'one segment is left');
ok((wal_pages($left[0]))[0]{sealed}, 'and is sealed');
$copy->start;
is($copy->safe_psql('postgres', $sum), $node->safe_psql('postgres', $sum), 'the server starts after pg_resetwal, with every row');
$copy->stop;

# --- pg_archivecleanup ---
my @archived = map { s{.*/}{}r } segments_in($node->archive_dir);
my $keep = $archived[ $#archived / 2 ];
is((run_tool('pgseal', 'exec', '--', 'pg_archivecleanup', $node->archive_dir, $keep))[0], 0, 'pg_archivecleanup');
is((map { s{.*/}{}r } segments_in($node->archive_dir))[0], $keep, 'it removed what was older');

# --- another machine ---
my $overrides = PostgreSQL::Test::Utils::tempdir_short() . '/overrides';
$token->write($overrides, '{"hsm": ' . $token->config . '}');
my $elsewhere = PostgreSQL::Test::Utils::tempdir_short();
my @from = ('pgseal', 'exec', '--from', $node->connstr('postgres'), '--overrides', $overrides, '--');
($status, undef, $err) = run_tool(@from, 'pg_receivewal', '-D', $elsewhere, '-S', 'there', '-d', $node->connstr('postgres'), '--no-loop', '--endpos', $after);
is($status, 0, 'with keys fetched from the server') or diag $err;
my ($first) = map { "$elsewhere/$_" } @same;
ok(slurp_raw($first) eq slurp_raw("$received/$same[0]"), 'the same segments');
$node->safe_psql('postgres', 'CREATE ROLE reader LOGIN; CREATE ROLE streamer LOGIN REPLICATION; GRANT USAGE ON SCHEMA seal TO reader, streamer');
my $as = sub { my ($role) = @_; return $node->connstr('postgres') . " user=$role" };
($status, undef, $err) = run_tool('pgseal', 'exec', '--from', $as->('streamer'), '--overrides', $overrides, '--', 'pg_waldump', $first);
like($err, qr/permission denied for function export_wal_keys/, 'nobody has the function unless it is granted');
$node->safe_psql('postgres', 'GRANT EXECUTE ON FUNCTION seal.export_wal_keys() TO reader, streamer');
($status, undef, $err) = run_tool('pgseal', 'exec', '--from', $as->('reader'), '--overrides', $overrides, '--', 'pg_waldump', $first);
like($err, qr/permission denied to export WAL keys/, 'a role without REPLICATION does not get them at all');
($status, $dump, $err) = run_tool('pgseal', 'exec', '--from', $as->('streamer'), '--overrides', $overrides, '--', 'pg_waldump', $first);
like($dump, qr/^rmgr: /, 'one with REPLICATION does');
unlike($node->safe_psql('postgres', 'SELECT seal.export_wal_keys()'), qr/"(tablespaces|operations)"\s*:\s*\{\s*"/, 'policies and operations are not exported');
is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT actor, ',') FROM seal.audit_log WHERE event = 'wal.export_keys' AND result = 'ok' AND actor <> current_user"),
	'streamer', 'the audit log has it');
$token->write($overrides, '{"other": {}}');
($status, undef, $err) = run_tool(@from, 'pg_waldump', $first);
isnt($status, 0, 'a provider\'s settings are never taken from the server');
like($err, qr/provider 'hsm'/, 'and it says whose are missing');

# --- refused ---
like((run_tool(@exec, 'pg_receivewal', '-D', $received, '-Z', '1'))[2], qr/--compress hides/, 'compressed segments have no pages');
like((run_tool(@exec, 'pg_basebackup', '-D', '-', '-Ft'))[2], qr/--format=tar with streamed WAL hides/, 'nor has a tar archive');
my $stranger = SealTest->new('stranger');
$stranger->init_seal(load => 0);
like((run_tool('pgseal', 'exec', '-D', $stranger->data_dir, '--', 'pg_waldump', $first))[2], qr/has no keys/, 'a directory without keys');

# --- another cluster, whose WAL key has the same number ---
my $cousin = SealTest->new('cousin');
$cousin->init_seal(allows_streaming => 1, extra => ['--wal-segsize=1']);
$cousin->start;
$cousin->safe_psql('postgres', 'CREATE EXTENSION pg_seal; SELECT seal.add_provider(\'hsm\', \'pkcs11\', ' . sql_literal($token->config)
	. "); SELECT seal.create_keyring('default', 'hsm', kek => 'kek-cousin')");
some_load(70001, 10);
my $abroad = PostgreSQL::Test::Utils::tempdir_short();
my @receive = ('pg_receivewal', '-D', $abroad, '-d', $node->connstr('postgres'), '--no-loop', '--endpos', $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()'));
my @of_cousin = ('pgseal', 'exec', '-D', $cousin->data_dir);
like((run_tool(@of_cousin, '--', @receive))[2], qr/the WAL of this cluster is not sealed/, 'a cluster whose WAL is in clear has no key to write with');
is($cousin->safe_psql('postgres', 'SELECT seal.enable_wal_encryption()'), 1, 'generation 1 of another cluster');
($status, undef, $err) = run_tool(@of_cousin, '--', @receive);
isnt($status, 0, 'pg_receivewal with the keys of another cluster fails');
like($err, qr/could not write WAL segment .* WAL of another cluster/, 'and says why');
is_deeply([ grep { wal_pages($_) } segments_in($abroad) ], [], 'nothing was written');
like((run_tool(@of_cousin, '--', 'pg_waldump', $first))[2], qr/could not read WAL segment .* WAL of another cluster/, 'nor does pg_waldump read noise');
{
	local $ENV{PGDATA} = $node->data_dir;
	like((run_tool('pgseal', 'exec', '--', @receive))[2], qr/no data directory is known that holds the WAL keys/, 'a tool that writes is told whose keys, never by PGDATA');
}
$cousin->stop;
$node->stop;
($status, undef, $err) = run_tool('pgseal', 'exec', '-D', $copy->data_dir, '--', 'pg_waldump', (segments_in($node->data_dir . '/pg_wal'))[-1]);
is_deeply([ $node->files_with($canary, wal => 1, no_checkpoint => 1) ], [], 'no text of a row is anywhere in the data directory');
done_testing();
