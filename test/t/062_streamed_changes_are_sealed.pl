# A subscription with streaming = on keeps the changes of a running transaction in files of the subscriber (.changes, .subxacts): sealed, appended to by each
# stream, cut when a subtransaction is rolled back, and applied as from files in clear.
use strict;
use warnings;
use SealTest;
use SealTest::Sampler;
use Test::More;

my $canary = 'CANARY-31dd-STREAMED';
my $publisher = SealTest->new('publisher');
$publisher->init_seal(allows_streaming => 'logical', conf => "logical_decoding_work_mem = 64kB\n");
$publisher->start;
my $subscriber = SealTest->new('subscriber');
$subscriber->init_seal(allows_streaming => 'logical');
$subscriber->start;
$_->safe_psql('postgres', 'CREATE TABLE t (n int PRIMARY KEY, s text)') for $publisher, $subscriber;
$publisher->safe_psql('postgres', 'CREATE PUBLICATION p FOR TABLE t');
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION " . sql_literal($publisher->connstr('postgres')) . " PUBLICATION p WITH (streaming = on)");
$subscriber->wait_for_subscription_sync;

my $sampler = SealTest::Sampler->new($subscriber, text => $canary, files => [ SealTest::Sampler::temp_folders() ]);
my $digest = q{SELECT count(*), md5(string_agg(n || s, '' ORDER BY n)) FROM t};
my $next = 0;
for my $mode (qw(off on))
{
	$subscriber->append_conf('postgresql.conf', "pg_seal.encrypt_temp_files = $mode\n");
	$subscriber->restart;
	for my $end (qw(COMMIT ROLLBACK))
	{
		my $session = $publisher->background_psql('postgres', on_error_stop => 1);
		$session->query_safe('BEGIN');
		# Streams of odd sizes; every third subtransaction is rolled back, in the middle of what was streamed.
		for my $part (1 .. 9)
		{
			$session->query_safe("SAVEPOINT a$part");
			my ($from, $to) = ($next + 1, $next += 700);
			$session->query_safe("INSERT INTO t SELECT g, left(repeat('$canary' || md5(g::text), 20), 50 + g * 13 % 500) FROM generate_series($from, $to) g");
			$session->query_safe($part % 3 == 0 ? "ROLLBACK TO a$part" : "RELEASE a$part");
		}
		my @files;
		for (1 .. 600)
		{
			@files = grep { -s $_ > 200_000 } glob $subscriber->data_dir . '/base/pgsql_tmp/*.fileset/*.changes.*';
			last if @files;
			select undef, undef, undef, 0.1;
		}
		is(scalar(@files), 1, "$mode, $end: the streamed changes are in a file of the subscriber");
		$sampler->forget->look;
		if ($mode eq 'off') { isnt(scalar($sampler->found), 0, "off, $end: the text is in it") }
		else { is_deeply([ $sampler->found ], [], "on, $end: the text is not in it") }
		$session->query_safe($end);
		$session->quit;
		$publisher->wait_for_catchup('s');
		is($subscriber->safe_psql('postgres', $digest), $publisher->safe_psql('postgres', $digest), "$mode, $end: the same rows on both sides");
	}
}
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM t'), 2 * 6 * 700, 'they are those of two committed transactions');
$_->stop for $subscriber, $publisher;
done_testing();
