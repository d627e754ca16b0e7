# A damaged record of a key file is reported with its relation and the remedy, and concerns no other relation. A damaged, exchanged,
# removed or outdated key file is reported by name with the remedy: that database cannot be used until the file is put right, for
# which of its relations are sealed cannot be told; other databases go on. Putting the file back puts everything right. Pages that were altered outside the server are refused.
use strict;
use warnings;
use File::Copy;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::KeyFile;
use Test::More;

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
$node->init_seal(checksums => 1);
$node->start;
$node->set_up_keys($token);
$node->make_tablespace('secure', sealed => 1);
$node->safe_psql('postgres', 'CREATE DATABASE other');
my $rows = "AS SELECT g AS x, md5(g::text) AS y FROM generate_series(1, 1000) g";
$node->safe_psql('postgres', "CREATE TABLE one TABLESPACE secure $rows; CREATE TABLE two TABLESPACE secure $rows; CREATE TABLE open $rows");
$node->safe_psql('other', "CREATE TABLE three TABLESPACE secure $rows");
my $sum = 'SELECT count(*), sum(x), md5(string_agg(y, chr(10) ORDER BY x)) FROM';
my $expected = $node->safe_psql('postgres', "$sum open");
my $file = key_file_of($node, 'postgres');
my $name = qr/key file "[^"]*pg_seal_keys"|file "pg_seal_keys"/;

sub read_all
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('postgres', "$sum $_"), $expected, "$what: $_ reads right") for qw(one two open);
	is($node->safe_psql('other', "$sum three"), $expected, "$what: the other database too");
	return;
}

# While the server is down `change` alters the key file; then `check` runs; then the file is put back and everything must be right.
sub with_changed_file
{
	my ($what, $change, $check, %params) = @_;
	$node->stop;
	my $good = SealTest::slurp_raw($file);
	$change->($good);
	$node->start;
	$check->();
	is($node->safe_psql('postgres', "$sum open"), $expected, "$what: a plain table of that database reads right") unless $params{whole_file};
	is($node->safe_psql('other', "$sum three"), $expected, "$what: sealed tables of other databases read right");
	$node->stop;
	if ($params{slot})    # the server may have added records meanwhile: this one alone goes back
	{
		my $bytes = SealTest::slurp_raw($file);
		substr($bytes, $params{slot}, 256) = substr($good, $params{slot}, 256);
		my $block = int($params{slot} / 8192);
		my $page = substr($bytes, $block * 8192, 8192);
		set_page_checksum(\$page, $block);
		substr($bytes, $block * 8192, 8192) = $page;
		$good = $bytes;
	}
	spit_raw($file, $good);
	$node->start;
	read_all("$what, put right");
	return;
}
read_all('before');

# --- one record ---
my $slot = key_slot_of($node, 'postgres', 'one');
for my $where ([ 'the wrapped key' => 60 ], [ 'its MAC' => 226 ], [ 'its generation' => 41 ], [ 'its keyring' => 28 ])
{
	with_changed_file("a byte of $where->[0]",
		sub {
			my ($bytes) = @_;
			my $at = $slot->{at} + $where->[1];
			substr($bytes, $at, 1) = chr(ord(substr $bytes, $at, 1) ^ 0x04);
			spit_raw($file, $bytes);
		},
		sub {
			$node->fails_like('postgres', 'SELECT * FROM one', qr/(key record of relation \S+ does not verify under keyring|key of keyring "[^"]+", which protects relation).*HINT:/s,
				"a changed byte of $where->[0]: refused, with a hint");
			is($node->safe_psql('postgres', "$sum two"), $expected, 'its neighbour is untouched');
			$node->fails_like('postgres', 'INSERT INTO one VALUES (1)', qr/key/, 'nothing is written to it');
			$node->safe_psql('postgres', 'CREATE TABLE fresh TABLESPACE secure AS SELECT 1 AS x; CHECKPOINT; DROP TABLE fresh');
		}, slot => $slot->{at});
}

# --- the file ---
$node->safe_psql('postgres', "CREATE TABLE base TABLESPACE secure $rows");
my $foreign = key_file_of($node, 'other');
$node->stop;
my $old = SealTest::slurp_raw($file);
$node->start;
$node->safe_psql('postgres', "CREATE TABLE newer TABLESPACE secure $rows");
my @damage = (
	[ 'a damaged page', sub { my ($bytes) = @_; substr($bytes, 24, 8) = 'garbage!'; spit_raw($file, $bytes) }, qr/page 0 of $name is damaged.*HINT:  Restore/s ],
	[ 'a removed file', sub { unlink $file or die "$file: $!" }, qr/$name is missing.*HINT:  Put the newest key file/s ],
	[ 'the file of another database', sub { copy($foreign, $file) or die "$file: $!" }, qr/$name belongs to another database.*HINT:  Put the newest key file/s ],
	[ 'an empty file', sub { spit_raw($file, '') }, qr/$name is (missing|damaged).*HINT: /s ],
	[ 'an older copy', sub { spit_raw($file, $old) }, qr/$name is older than one this server has already used.*HINT:  Put the newest key file/s ]);
for my $case (@damage)
{
	my ($what, $change, $pattern) = @$case;
	with_changed_file($what, $change, sub {
			my $changed = -e $file ? SealTest::slurp_raw($file) : undef;
			$node->fails_like('postgres', 'SELECT * FROM one', $pattern, "$what: named, with the remedy");
			$node->fails_like('postgres', 'CREATE TABLE fresh (x int) TABLESPACE secure', $pattern, "$what: no new key is put there");
			$node->safe_psql('other', 'CHECKPOINT');
			is(-e $file ? SealTest::slurp_raw($file) : undef, $changed, "$what: the file stays as it was found");
		}, whole_file => 1);
	is($node->safe_psql('postgres', "$sum newer"), $expected, "$what, put right: the newest table reads right");
}

# --- the record of a relation is missing, in a file that is otherwise in order: nothing plain may be written into the relation ---
my ($main) = $node->relation_files('postgres', 'one');
with_changed_file('a wiped record',
	sub {
		my ($bytes) = @_;
		substr($bytes, $slot->{at}, 256) = "\0" x 256;
		spit_raw($file, $bytes);
	},
	sub {
		my $before = count_marks($main);
		$node->fails_like('postgres', 'SELECT * FROM one', qr/key of sealed block 0 of relation \S+ is missing.*HINT:  Restore/s, 'reading says what is missing');
		$node->fails_like('postgres', "INSERT INTO one $rows" =~ s/INSERT INTO one AS/INSERT INTO one/r, qr/key of sealed block/, 'inserting too');
		$node->fails_like('postgres', 'UPDATE one SET x = 1', qr/key of sealed block/, 'updating too');
		$node->fails_like('postgres', 'VACUUM FULL one', qr/key of sealed block/, 'rewriting too');
		$node->fails_like('postgres', 'SET zero_damaged_pages = on; SELECT count(*) FROM one', qr/key of sealed block/,
			'zero_damaged_pages does not destroy it');
		$node->safe_psql('postgres', 'CHECKPOINT');
		is_deeply(count_marks($main), $before, 'no plain page came into the file');
		is($node->safe_psql('postgres', "$sum two"), $expected, 'its neighbour is untouched');
	}, slot => $slot->{at});

# --- pages of a sealed relation, altered outside the server ---
my ($plain_main) = $node->relation_files('postgres', 'open');
$node->stop;
my $sealed_bytes = SealTest::slurp_raw($main);
my $forged = (pages_of($plain_main))[0];    # a valid page with a valid checksum for block 0
substr(my $with_forged = $sealed_bytes, 0, 8192) = $forged;
spit_raw($main, $with_forged);
$node->start;
$node->fails_like('postgres', 'SELECT * FROM one', qr/block 0 of relation \S+ is not sealed, but the relation is: the page is refused.*ERROR:  invalid page in block 0/s,
	'a forged plain page is refused');
$node->stop;

my $flipped = $sealed_bytes;
substr($flipped, 4000, 1) = chr(ord(substr $flipped, 4000, 1) ^ 1);
spit_raw($main, $flipped);
$node->start;
$node->fails_like('postgres', 'SELECT * FROM one', qr/page verification failed.*invalid page in block 0/s, 'a flipped byte is a checksum failure');
is($node->safe_psql('postgres', q{SELECT checksum_failures > 0 FROM pg_stat_database WHERE datname = 'postgres'}), 't', 'and is counted');
my ($status, $out) = $node->psql('postgres', 'SET ignore_checksum_failure = on; SELECT count(*) FROM one WHERE x > 200');
is("$status|$out", '0|800', 'ignore_checksum_failure reads what is left');
$node->stop;
is($node->start && $node->safe_psql('postgres', q{SET zero_damaged_pages = on; SELECT count(*) < 1000 FROM one}), 't', 'zero_damaged_pages does what it does on a plain server');
$node->stop('immediate');
spit_raw($main, $sealed_bytes);
$node->start;
read_all('the relation put right');

# The same page at another place, or in another relation, opens to nothing that could be taken for rows.
$node->stop;
my $moved = $sealed_bytes;
my $page = substr($sealed_bytes, 8192, 8192);
set_page_checksum(\$page, 0);
substr($moved, 0, 8192) = $page;
spit_raw($main, $moved);
$node->start;
my (undef, $moved_out) = $node->psql('postgres', q{SELECT count(*) FROM one WHERE y ~ '^[0-9a-f]{32}$' AND ctid < '(1,0)'});
ok(!defined $moved_out || $moved_out eq '' || $moved_out eq '0', 'a sealed page moved to another block shows no row of its own') or diag($moved_out);
$node->stop('immediate');
spit_raw($main, $sealed_bytes);
$node->start;
read_all('at the end');
$node->stop;
$node->command_ok([ 'pg_checksums', '--check', '-D', $node->data_dir ], 'pg_checksums passes');
done_testing();
