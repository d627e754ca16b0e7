# No sequence hands out a value twice: not after a crash in the middle of a conversion, nor on a standby that is promoted then. A sequence runs ahead
# of its WAL record; an image of its page must not take that back.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Convert;
use Test::More;

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
$node->init_seal(checksums => 1, allows_streaming => 1, conf => "checkpoint_timeout = 1h\nmax_wal_size = 4GB\n");
$node->start;
$node->set_up_keys($token);
$node->safe_psql('postgres', q{
	CREATE SEQUENCE counted; CREATE SEQUENCE cached CACHE 5; CREATE SEQUENCE untouched; CREATE UNLOGGED SEQUENCE passing;
	CREATE TABLE with_identity (id int GENERATED ALWAYS AS IDENTITY, x int);
	CREATE TABLE ballast AS SELECT g AS x, repeat('x', 400) AS pad FROM generate_series(1, 60000) g;
	CHECKPOINT});
my $standby = SealTest->new('standby');
$standby->init_from_stock_backup($node, standby => 1);
$standby->start;

my %last = (counted => 0, cached => 0, with_identity_id_seq => 0);
sub take
{
	my ($count, $on) = @_;
	for my $sequence (sort keys %last)
	{
		my @values = map { ($on || $node)->safe_psql('postgres', "SELECT nextval('$sequence')") } 1 .. $count;
		my $first = $values[0];
		cmp_ok($first, '>', $last{$sequence}, "$sequence: $first follows $last{$sequence}");
		$last{$sequence} = $values[-1];
	}
	return;
}
take(3);

for my $what ('encrypt', 'decrypt')
{
	set_rate($node, 0);
	take(1);
	set_rate($node, 8);
	my $id = begin_convert($node, $what, 'pg_default');
	wait_until(sub { $node->safe_psql('postgres', q{SELECT relation FROM seal.operations WHERE state = 'running'}) =~ /ballast/ }, 'all sequences have been swept',
		every_ms => 20);
	take(4);
	$node->safe_psql('postgres', 'CREATE TABLE marker AS SELECT 1 AS x; DROP TABLE marker');
	if ($what eq 'encrypt')
	{
		$node->crash;
		$node->start;
		take(2);
		is($node->safe_psql('postgres', 'SELECT is_called, last_value FROM untouched'), 'f|1', 'a sequence that was never asked is as it was');
		set_rate($node, 0);
		wait_for_state($node, $id, 'done');
	}
	else
	{
		$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
		$node->crash;
		$standby->promote;
		take(2, $standby);
		is($standby->safe_psql('postgres', 'SELECT is_called, last_value FROM untouched'), 'f|1', 'a sequence that was never asked is as it was, on the standby');
	}
}
$standby->stop;
done_testing();
