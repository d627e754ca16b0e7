# A torn write of a sealed page - some sectors old, some new - loses nothing that a plain server would keep. Each block of a table
# gets a mixture of its own; a plain table is treated in the same way at the same time and must give the same answer.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::KeyFile;
use Test::More;

my $seed = $ENV{SEAL_TORN_SEED} || time;
srand $seed;
note "SEAL_TORN_SEED=$seed";
my $rows = q{SELECT g AS id, md5(g::text) AS note, repeat(chr(65 + g % 26), 100) AS pad FROM generate_series(1, 4000) g};
my $digest = q{SELECT count(*), sum(id), md5(string_agg(note || pad, ',' ORDER BY id)) FROM };
my $index_digest = q{SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(*), sum(id) FROM };
my $token = SealTest::Token->new;

sub cluster
{
	my ($name, %params) = @_;
	my $node = SealTest->new($name);
	$node->init_seal(%params);
	$node->append_conf('postgresql.conf', "shared_buffers = 1MB\nbgwriter_lru_maxpages = 0\ncheckpoint_timeout = 1h\nmax_wal_size = 1GB\n");
	$node->start;
	$node->set_up_keys($token, keyring => "ring_$name");
	$node->make_tablespace('secure', sealed => "ring_$name");
	$node->safe_psql('postgres', "CREATE TABLE sealed (id int, note text, pad text) TABLESPACE secure; CREATE TABLE plain (id int, note text, pad text);"
		  . "INSERT INTO sealed $rows; INSERT INTO plain $rows");
	return $node;
}

# Every block of $new whose twin in $old differs becomes a mixture of their sectors. 512 bytes is the smallest that a disk writes
# whole. Returns how many blocks were mixed.
sub mix
{
	my ($old, $new) = @_;
	my @old = unpack('(a8192)*', $old);
	my @new = unpack('(a8192)*', $new);
	my $mixed = 0;
	for my $block (0 .. $#new)
	{
		next if $block > $#old || $old[$block] eq $new[$block] || $old[$block] !~ /[^\0]/;
		my $cut = $mixed % 17;    # prefixes, suffixes, random subsets
		my $kind = int($mixed / 17) % 3;
		my @from_new = map { $kind == 0 ? $_ < $cut : $kind == 1 ? $_ >= $cut : int rand 2 } 0 .. 15;
		$new[$block] = join '', map { substr(($from_new[$_] ? $new[$block] : $old[$block]), $_ * 512, 512) } 0 .. 15;
		$mixed++;
	}
	return ($mixed, join '', @new);
}

sub main_files { my ($node) = @_; return map { ($node->relation_files('postgres', $_))[0] } qw(sealed plain) }

# --- hint bits alone, without checksums: a plain server writes them without any WAL ---
my $node = cluster('hints', checksums => 0);
my @files = main_files($node);
my $expected = $node->safe_psql('postgres', "$digest (SELECT * FROM ($rows) r) s");
$node->safe_psql('postgres', 'CHECKPOINT');
my @old = map { SealTest::slurp_raw($_) } @files;
is($node->safe_psql('postgres', "SELECT count(*) FROM $_"), '4000', "reading $_ sets hint bits") for qw(sealed plain);
$node->stop;
for my $i (0, 1)
{
	my ($mixed, $bytes) = mix($old[$i], SealTest::slurp_raw($files[$i]));
	cmp_ok($mixed, '>', 50, "$files[$i]: blocks whose hint bits came to disk");
	spit_raw($files[$i], $bytes);
}
$node->start;
is($node->safe_psql('postgres', "$digest $_"), $expected, "torn hint bits: $_ holds what was written") for qw(sealed plain);
$node->stop;

# --- pages that were changed after a checkpoint, with their images in WAL: recovery ---
$node = cluster('images', checksums => 1);
$node->safe_psql('postgres', 'CREATE INDEX i_sealed ON sealed (note, id) TABLESPACE secure; CREATE INDEX i_plain ON plain (note, id)');
@files = map { $node->relation_files('postgres', $_) } qw(sealed plain i_sealed i_plain);
$node->safe_psql('postgres', 'CHECKPOINT');
@old = map { SealTest::slurp_raw($_) } @files;
$node->safe_psql('postgres', q{UPDATE sealed SET note = md5(note) WHERE id % 3 = 0; UPDATE plain SET note = md5(note) WHERE id % 3 = 0;
	DELETE FROM sealed WHERE id % 97 = 0; DELETE FROM plain WHERE id % 97 = 0; SELECT count(*) FROM sealed; SELECT count(*) FROM plain});
$expected = $node->safe_psql('postgres', "$digest plain");
# Other tables push them out of the buffers, without a checkpoint.
$node->safe_psql('postgres', "CREATE TABLE push_$_ AS $rows; SELECT count(*) FROM push_$_") for 1 .. 3;
$node->safe_psql('postgres', 'SELECT sum(id) FROM push_1; SELECT sum(id) FROM push_2');
$node->crash;
my $all = 0;
for my $i (0 .. $#files)
{
	my ($mixed, $bytes) = mix($old[$i], SealTest::slurp_raw($files[$i]));
	$all += $mixed;
	spit_raw($files[$i], $bytes);
	cmp_ok($mixed, '>', 20, "$files[$i]: blocks that came to disk before the crash") if $files[$i] !~ /_(fsm|vm)$/;
}
note "$all blocks torn";
$node->start;
is($node->safe_psql('postgres', "$digest $_"), $expected, "torn rewrites: $_ is recovered") for qw(sealed plain);
is($node->safe_psql('postgres', $index_digest . "sealed WHERE note > ''"), $node->safe_psql('postgres', $index_digest . "plain WHERE note > ''"),
	'torn rewrites: the indexes agree');
$node->safe_psql('postgres', 'CREATE EXTENSION amcheck');
is($node->safe_psql('postgres', q{SELECT count(*) FROM verify_heapam('sealed'); SELECT bt_index_check('i_sealed', true)}), "0\n", 'amcheck finds nothing');
unlike(slurp_file($node->logfile), qr/page verification failed|is not sealed|invalid page/, 'no torn page was seen by a query');
$node->stop;
$node->command_ok([ 'pg_checksums', '--check', '-D', $node->data_dir ], 'pg_checksums passes');
done_testing();
