# Logical decoding spills large transactions into files that lie sealed, and decodes from them what it decodes from files in clear: rows of odd sizes, rows larger
# than the cipher's own buffer, subtransactions, the same transaction again (the same file names, another nonce).
use strict;
use warnings;
use SealTest;
use SealTest::Sampler;
use Test::More;

my $canary = 'CANARY-77ab-SPILLED';
my $node = SealTest->new('primary');
$node->init_seal(conf => "wal_level = logical\nlogical_decoding_work_mem = 64kB\nmax_replication_slots = 4\n");
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_seal;
	CREATE TABLE t (n int, s text);
	ALTER TABLE t REPLICA IDENTITY FULL;
	ALTER TABLE t ALTER s SET STORAGE EXTERNAL;
	SELECT pg_create_logical_replication_slot('one', 'test_decoding');
	SELECT pg_create_logical_replication_slot('two', 'test_decoding');
});
# Rows of 30 to 3000 bytes, some of 200 kB, in subtransactions, one of which is rolled back.
$node->safe_psql('postgres', qq{
	BEGIN;
	INSERT INTO t SELECT g, left(repeat(md5(g::text) || '$canary', 60), 30 + g * 7 % 2970) FROM generate_series(1, 4000) g;
	SAVEPOINT a;
	INSERT INTO t SELECT g, repeat(md5(g::text) || '$canary', 4000) FROM generate_series(5001, 5010) g;
	RELEASE a;
	SAVEPOINT b;
	INSERT INTO t SELECT g, 'rolled back $canary' || md5(g::text) FROM generate_series(6001, 8000) g;
	ROLLBACK TO b;
	UPDATE t SET s = s || 'x' WHERE n <= 2000;
	DELETE FROM t WHERE n % 5 = 0;
	COMMIT;
});

my $decode = sub { "SELECT count(*), md5(string_agg(data, '' ORDER BY ordinality)) FROM pg_logical_slot_peek_changes('$_[0]', NULL, NULL, 'include-xids', '0')
	WITH ORDINALITY AS c(lsn, xid, data, ordinality)" };
my $sampler = SealTest::Sampler->new($node, text => $canary, files => ['pg_replslot']);
my $plain;
for my $mode (qw(off on))
{
	$node->append_conf('postgresql.conf', "pg_seal.encrypt_temp_files = $mode\n");
	$node->restart;
	for my $time (1 .. 3)
	{
		my $output = $sampler->forget->run('postgres', $decode->('one'));
		$plain = $output if !defined $plain;
		is($output, $plain, "$mode: decoded as before, time $time");
		like($output, qr/^\d{4,}\|/, "$mode: it is the whole transaction");
		cmp_ok($sampler->bytes, '>', 1_000_000, "$mode: its spill files were sampled");
		if ($mode eq 'off') { isnt(scalar($sampler->found), 0, 'off: the text is in them') }
		else { is_deeply([ $sampler->found ], [], 'on: the text is in none of them') }
	}
	is($sampler->run('postgres', $decode->('two')), $plain, "$mode: another slot decodes the same");
}
cmp_ok($node->safe_psql('postgres', q{SELECT sum(spill_count) FROM pg_stat_replication_slots}), '>', 0, 'the server counts the transactions as spilled');

# A server killed while it decodes leaves files; the next start removes them, and decoding begins again.
my $found = 0;
my $pid = $sampler->start('postgres', 'SELECT 1 FROM generate_series(1, 50), LATERAL (' . $decode->('one') . ') x');
for (1 .. 600)
{
	last if $found = grep { -s $_ > 100_000 } glob $node->data_dir . '/pg_replslot/one/*.spill';
	select undef, undef, undef, 0.02;
}
$node->crash;
waitpid $pid, 0;
ok($found, 'a killed server leaves spill files') or diag(join ' ', glob $node->data_dir . '/pg_replslot/one/*');
is_deeply([ $sampler->forget->look || $sampler->found ], [], 'the text is not in what a killed server leaves');
$node->start;
is($node->safe_psql('postgres', $decode->('one')), $plain, 'after the crash the same is decoded');
$node->stop;
done_testing();
