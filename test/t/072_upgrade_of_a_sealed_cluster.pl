# pg_upgrade, run by pgseal, of a wholly sealed cluster into a new one of the same major version, by copying and by linking: keys, policies, WAL keys and audit log are
# the new cluster's, every row is there, what is made afterwards is sealed. What stands in the way is said before anything is done.
use strict;
use warnings;
use File::Copy qw(copy);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Tools;
use SealTest::Wal;
use Test::More;

my $token = SealTest::Token->new;
my $canary = 'canary-that-was-upgraded';
my $bin = dirname_of(`which pg_upgrade` =~ s/\s+\z//r);

sub dirname_of { return $_[0] =~ s{/[^/]*\z}{}r }

sub load
{
	my ($node) = @_;
	$node->safe_psql('postgres', qq{
		CREATE TABLE words (id int PRIMARY KEY, word text, big text);
		INSERT INTO words SELECT g, '$canary-' || g, CASE WHEN g % 50 = 0 THEN string_agg(md5((g * 1000 + s)::text), '') END
			FROM generate_series(1, 3000) g, generate_series(1, 300) s GROUP BY g;
		CREATE INDEX ON words USING gin (to_tsvector('simple', word));
		CREATE UNLOGGED TABLE loose (id int PRIMARY KEY, word text);
		INSERT INTO loose SELECT g, '$canary' FROM generate_series(1, 500) g;
		CREATE SEQUENCE counted;
		SELECT nextval('counted') FROM generate_series(1, 41);
		CREATE MATERIALIZED VIEW few AS SELECT * FROM words WHERE id < 100;
		CREATE TABLE empty (id int);
		CREATE TABLE dropped AS SELECT 1 AS x;
		DROP TABLE dropped;
		SELECT lo_from_bytea(4711, 'a large object $canary');
		CREATE DATABASE other;
	});
	$node->safe_psql('other', "CREATE TABLE there AS SELECT g AS id, '$canary' || g AS word FROM generate_series(1, 2000) g");
	return;
}

sub digest
{
	my ($node) = @_;
	return join '|', $node->safe_psql('postgres', q{SELECT md5(string_agg(w::text, ',' ORDER BY id)) FROM words w; SELECT count(*) FROM loose; SELECT count(*) FROM few;
		SELECT encode(lo_get(4711), 'escape'); SELECT last_value FROM counted; SELECT count(*) FROM words WHERE to_tsvector('simple', word) @@ to_tsquery('simple', '17')}),
	  $node->safe_psql('other', q{SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM there t});
}

my $old = SealTest->new('old');
$old->init_seal(checksums => 1, extra => ['--wal-segsize=1'], conf => 'max_prepared_transactions = 0');
$old->start;
$old->set_up_keys($token);
enable_wal($old);
load($old);
$old->safe_psql('postgres', q{SELECT seal.encrypt_tablespace('pg_default')});
$old->safe_psql('postgres', q{CREATE TABLE later AS SELECT * FROM words; CHECKPOINT});
$old->safe_psql('postgres', q{SELECT seal.rotate_kek('default'); SELECT seal.rotate_wal_key()});
my $expected = digest($old);
$old->append_conf('postgresql.conf', "pg_seal.require_encryption = on\n");
my $events = $old->safe_psql('postgres', 'SELECT count(*) FROM seal.audit_log');

sub new_cluster
{
	my ($name, %params) = @_;
	my $node = SealTest->new($name);
	$node->init_seal(checksums => 1, extra => ['--wal-segsize=1'], conf => "max_prepared_transactions = 0\npg_seal.require_encryption = on", %params);
	return $node;
}
sub upgrade
{
	my ($new, @more) = @_;
	local $ENV{PGUSER} = undef;
	delete local $ENV{PGUSER};
	my $here = PostgreSQL::Test::Utils::tempdir_short();
	return run_tool('sh', '-c', 'cd "$0" && exec "$@"', $here, 'pgseal', 'exec', '--', 'pg_upgrade', '-b', $bin, '-B', $bin, '-d', $old->data_dir, '-D', $new->data_dir,
		'-s', $new->host, '-p', $old->port, '-P', $new->port, @more);
}

# --- what stands in the way ---
my ($status, $out, $err);
my $new = new_cluster('new');
like((upgrade($new))[2], qr/the old cluster's server is running/, 'a running server is refused');
$old->stop;
# The audit log may lie elsewhere.
rename $old->data_dir . '/pg_seal/audit', $old->basedir . '/audit' or die;
symlink $old->basedir . '/audit', $old->data_dir . '/pg_seal/audit' or die;
my $configuration = PostgreSQL::Test::Utils::tempdir_short();
copy($old->data_dir . '/postgresql.conf', $configuration);
($status, $out, $err) = upgrade($new, '-d', $configuration);
like($err, qr/is not the data directory of the old cluster/, 'a directory with the configuration alone is told from a data directory');
unlike($err, qr/without pgseal/, 'and nobody is told to go on without pgseal');
like((upgrade($new, '-o', '-c shared_preload_libraries=other', '-o', '-c work_mem=5MB'))[2], qr/shared_preload_libraries of the old cluster does not name pg_seal/, 'options given twice count twice');
my $bare = new_cluster('bare', load => 0);
like((upgrade($bare))[2], qr/shared_preload_libraries of the new cluster does not name pg_seal/, 'a new cluster without the library is refused');
ok(!-e $bare->data_dir . '/pg_seal/registry', 'and nothing was put into it');
my $taken = new_cluster('taken');
$taken->start;
$taken->set_up_keys($token, keyring => 'its own');
$taken->stop;
like((upgrade($taken))[2], qr/the new cluster has keyrings of its own/, 'one with keys of its own, too');
$token->hide;
like((upgrade($new))[2], qr/keyring 'default', provider 'hsm'/, 'and an upgrade whose keys cannot be unwrapped');
$token->show;
($status, $out, $err) = upgrade($new, '--che');    # as getopt_long() takes it
is($status, 0, '--check passes') or diag "$out$err";
ok(!-e $new->data_dir . '/pg_seal/registry', 'and carries nothing over');

# One that fails on its way can be tried again, as far as the keys go.
($status, $out, $err) = upgrade($new, '-U', 'nobody_here');
isnt($status, 0, 'pg_upgrade fails, and so does pgseal');
like($err, qr/pg_upgrade failed\. The keys of the old cluster are as they were/, 'which says what that means');
ok(-e $new->data_dir . '/pg_seal/import', 'keys had been carried over');

for my $mode ('copy', 'link')
{
	$new = new_cluster("by_$mode") if $mode eq 'link';
	($status, $out, $err) = upgrade($new, $mode eq 'link' ? '--link' : ());
	is($status, 0, "$mode: pg_upgrade") or die "$out$err";
	like($out, qr/^pgseal: (\d\d+) key records are the new cluster's/m, "$mode: it tells how many keys were carried over");
	ok(!-e $new->data_dir . '/pg_seal/import', "$mode: what was only needed meanwhile is gone");
	is_deeply([ files_holding($canary, $new->data_dir . '/pg_wal') ], [], "$mode: no text of a row lies in clear in the new WAL");
	is(scalar(grep { my @pages = wal_pages($_); grep { !$_->{sealed} && !$_->{empty} } @pages } segments_in($new->data_dir . '/pg_wal')), 0, "$mode: which is sealed from its first segment on");
	$new->start;
	is(digest($new), $expected, "$mode: every row is there");
	is($new->safe_psql('postgres', "SELECT count(*) FROM seal.relations WHERE relation::oid >= 16384 AND state <> 'sealed' AND total_pages > 0 AND zero_pages < total_pages"), '0', "$mode: all that was transferred is sealed");
	is($new->safe_psql('postgres', "SELECT string_agg(keyring || ' ' || kek_version || ' ' || unlocked, ',') FROM seal.keyrings"), 'default 2 true', "$mode: the keyring is there");
	is($new->safe_psql('postgres', "SELECT string_agg(generation || state, ',' ORDER BY generation) FROM seal.wal_keys"), '1retired,2active,3next', "$mode: the WAL keys, too");
	cmp_ok($new->safe_psql('postgres', 'SELECT count(*) FROM seal.audit_log'), '>=', $events, "$mode: the audit log goes on");
	# What pg_upgrade does not transfer, written anew: sequences, init forks after a crash.
	is($new->safe_psql('postgres', "SELECT nextval('counted')"), '42', "$mode: the sequence goes on");
	$new->safe_psql('postgres', q{INSERT INTO words SELECT g, 'after', NULL FROM generate_series(5001, 6000) g; CREATE TABLE fresh AS SELECT * FROM words;
		UPDATE words SET word = word || '!' WHERE id % 3 = 0; REINDEX TABLE words; VACUUM FULL few});
	$new->crash;
	$new->start;
	is($new->safe_psql('postgres', 'SELECT count(*) FROM loose'), '0', "$mode: an unlogged table is empty after a crash");
	$new->safe_psql('postgres', q{INSERT INTO loose SELECT g, 'again' FROM generate_series(1, 100) g});
	is($new->safe_psql('postgres', q{SET enable_seqscan = off; SELECT count(*) FROM loose WHERE id BETWEEN 50 AND 59}), '10', "$mode: and so is its index");
	is($new->safe_psql('postgres', 'SELECT count(*), count(*) FILTER (WHERE word LIKE \'%!\') FROM words'), '4000|1334', "$mode: what was done afterwards survived");
	is($new->is_sealed_on_disk('postgres', 'fresh'), 1, "$mode: new relations are sealed");
	$new->safe_psql('postgres', q{SELECT seal.encrypt_tablespace('pg_default')});
	is($new->safe_psql('postgres', q{SELECT count(*) FROM seal.relations WHERE tablespace = 'pg_default' AND state <> 'sealed' AND total_pages > 0 AND zero_pages < total_pages}), '0',
		"$mode: so are the catalogs, once the tablespace has been sealed again");
	$new->stop;
	($status, $out, $err) = run_tool('pgseal', 'scan', '--summary', $new->data_dir);
	is($status, 0, "$mode: pgseal scan finds nothing amiss") or diag "$out$err";
	is_deeply([ $new->files_with($canary, wal => 1, no_checkpoint => 1) ], [], "$mode: no text of a row lies in clear");
	if ($mode eq 'copy')
	{
		$old->start;
		is(digest($old), $expected, 'copy: the old cluster is as it was');
		$old->stop;
	}
}
done_testing();
