# What sorts, hashes, tuplestores, index builds and holdable cursors spill lies sealed on disk, in every tablespace and in files that parallel workers
# share, and the results are those of the same statements on plain files. With pg_seal.encrypt_temp_files = off the same samples find the text.
# What a killed server or backend leaves behind is unreadable too.
use strict;
use warnings;
use SealTest;
use SealTest::Sampler;
use Test::More;

my $canary = 'CANARY-9f1c-TEMPORARY';
my $node = SealTest->new('primary');
$node->init_seal(conf => "remove_temp_files_after_crash = off\nrestart_after_crash = on\nlog_temp_files = 0\nmax_parallel_workers = 4\n");
$node->start;
$node->make_tablespace('aside');
# linger() stops a statement for a moment near the end of its input, when most of it has been spilled.
$node->safe_psql('postgres', qq{
	CREATE EXTENSION pg_seal;
	CREATE TABLE t AS SELECT g AS n, g * 7919 % 40009 AS k, md5(g::text) || ' $canary ' || md5((g + 1)::text) AS s FROM generate_series(1, 40000) g;
	VACUUM ANALYZE t;
	CREATE FUNCTION linger(n int) RETURNS bool IMMUTABLE PARALLEL SAFE LANGUAGE plpgsql COST 1 AS \$\$
		BEGIN IF n = 39990 THEN PERFORM pg_sleep(0.7); END IF; RETURN true; END \$\$;
	CREATE FUNCTION rows_of_t() RETURNS TABLE (a int, b text) LANGUAGE plpgsql AS \$\$
		BEGIN RETURN QUERY SELECT n, s FROM t WHERE linger(n); END \$\$;
});

my $small = "SET work_mem = '64kB'; SET maintenance_work_mem = '1MB'; SET max_parallel_workers_per_gather = 0; SET max_parallel_maintenance_workers = 0;";
my $parallel = "SET work_mem = '64kB'; SET hash_mem_multiplier = 1; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
	SET max_parallel_workers_per_gather = 2; SET max_parallel_maintenance_workers = 2; SET parallel_leader_participation = on;";
my %workloads = (
	'sort' => "$small SELECT md5(string_agg(s, ',')) FROM (SELECT s FROM t WHERE linger(n) ORDER BY s) x",
	'sort of wide rows, some of several blocks' => "$small SELECT count(*), md5(string_agg(md5(w), ',')) FROM
		(SELECT repeat(s, 1 + n % 200) AS w FROM t WHERE linger(n) AND n > 38000 ORDER BY s) x",
	'hash join' => "$small SET enable_mergejoin = off; SET enable_nestloop = off;
		SELECT count(*), sum(hashtext(a.s || b.s)) FROM t a JOIN t b ON a.k = b.n WHERE linger(a.n)",
	'hash aggregate' => "$small SET enable_sort = off; SET hash_mem_multiplier = 1;
		SELECT count(*), sum(hashtext(s)::bigint * c) FROM (SELECT s, count(*) AS c FROM t WHERE linger(n) GROUP BY s) x",
	'parallel hash join' => "$parallel SET enable_mergejoin = off; SET enable_nestloop = off;
		SELECT count(*), sum(hashtext(a.s || b.s)) FROM t a JOIN t b USING (s) WHERE linger(a.n)",
	'parallel sort' => "$parallel SELECT md5(string_agg(s, ',')) FROM (SELECT s FROM t WHERE linger(n) ORDER BY s) x",
	'CREATE INDEX' => "$small CREATE INDEX i ON t (s) WHERE linger(n); SET enable_seqscan = off; SET enable_sort = off;
		SELECT md5(string_agg(s, ',')) FROM (SELECT s FROM t WHERE linger(n) ORDER BY s) x; DROP INDEX i",
	'parallel CREATE INDEX' => "$parallel SET maintenance_work_mem = '96MB'; CREATE INDEX i ON t (s) WHERE linger(n); SET enable_seqscan = off; SET enable_sort = off;
		SELECT md5(string_agg(s, ',')) FROM (SELECT s FROM t WHERE linger(n) ORDER BY s) x; DROP INDEX i",
	'holdable cursor, read to and fro' => "$small BEGIN; DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT md5(s) FROM t WHERE linger(n) AND s LIKE '%$canary%' ORDER BY n; COMMIT;
		FETCH ABSOLUTE 20000 FROM c; FETCH BACKWARD 3 FROM c; FETCH LAST FROM c; FETCH ABSOLUTE 17 FROM c; MOVE FORWARD ALL IN c; FETCH PRIOR FROM c; CLOSE c",
	'holdable cursor over the text' => "$small BEGIN; DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT s FROM t WHERE linger(n); COMMIT;
		FETCH ABSOLUTE 20000 FROM c; SELECT pg_sleep(0.3); FETCH FIRST FROM c; FETCH ABSOLUTE 39999 FROM c; CLOSE c",
	'window frame over a spilled tuplestore' => "$small SELECT count(*), sum(hashtext(a || b)) FROM (SELECT max(s) OVER w AS a, first_value(s) OVER w AS b
		FROM t WHERE linger(n) WINDOW w AS (ORDER BY n ROWS BETWEEN 90 PRECEDING AND 60 FOLLOWING)) x",
	'materialized query read twice' => "$small SET enable_hashjoin = off; SET enable_nestloop = off; WITH c AS MATERIALIZED (SELECT n, s FROM t WHERE linger(n))
		SELECT count(*), sum(hashtext(a.s || b.s)) FROM c a JOIN c b ON a.n = b.n + 1",
	'function that returns rows' => "$small SELECT count(*), sum(hashtext(b)) FROM rows_of_t()",
	'temporary tablespace' => "$small SET temp_tablespaces = aside; SELECT md5(string_agg(s, ',')) FROM (SELECT s FROM t WHERE linger(n) ORDER BY s) x",
);

my $sampler = SealTest::Sampler->new($node, text => $canary, files => [ SealTest::Sampler::temp_folders() ]);

# The plans are those that the names say.
like($node->safe_psql('postgres', "$parallel SET enable_mergejoin = off; SET enable_nestloop = off; EXPLAIN SELECT count(*) FROM t a JOIN t b USING (s) WHERE linger(a.n)"),
	qr/Parallel Hash Join/, 'the parallel hash join is one');

my %plain;
for my $mode (qw(off on))
{
	$node->append_conf('postgresql.conf', "pg_seal.encrypt_temp_files = $mode\n");
	$node->restart;
	is($node->safe_psql('postgres', "SELECT status FROM seal.health WHERE check_name = 'temporary files'"), $mode eq 'on' ? 'ok' : 'warning',
		"seal.health tells that the setting is $mode");
	for my $name (sort keys %workloads)
	{
		my $output = $sampler->forget->run('postgres', $workloads{$name});
		cmp_ok($sampler->bytes, '>', 0, "$mode: $name: its files were sampled");
		if ($mode eq 'off')
		{
			$plain{$name} = $output;
			isnt(scalar($sampler->found), 0, "off: $name: the text is in them") unless $name eq 'holdable cursor, read to and fro';
		}
		else
		{
			is_deeply([ $sampler->found ], [], "on: $name: the text is in none of them");
			is($output, $plain{$name}, "on: $name: the same result");
		}
	}
	leftovers($mode);
}

# Files of a killed backend (kept by remove_temp_files_after_crash = off) and of a killed server.
sub leftovers
{
	my ($mode) = @_;
	for my $how ('backend', 'server')
	{
		my $sort = "$small SELECT count(*) FROM (SELECT s FROM t WHERE CASE WHEN n = 39990 THEN pg_sleep(120) IS NOT NULL ELSE true END ORDER BY s) x";
		my $psql = $sampler->start('postgres', $sort);
		$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'") or die 'the sort does not come to its pause';
		if ($how eq 'backend')
		{
			kill 'KILL', $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
		}
		else
		{
			$node->crash;
		}
		waitpid $psql, 0;
		if ($how eq 'backend')
		{
			$node->poll_query_until('postgres', 'SELECT true') or die 'the server does not come up';
		}
		$sampler->forget->look;
		cmp_ok($sampler->bytes, '>', 100_000, "$mode: a killed $how leaves files");
		if ($mode eq 'off') { isnt(scalar($sampler->found), 0, "off: the text is in what a killed $how leaves") }
		else { is_deeply([ $sampler->found ], [], "on: the text is not in what a killed $how leaves") }
		$node->start if $how eq 'server';
		is($node->safe_psql('postgres', $workloads{sort}), $plain{sort}, "$mode: after a killed $how sorts go on");
	}
	return;
}

$node->fails_like('postgres', 'SET pg_seal.encrypt_temp_files = off', qr/cannot be changed without restarting/, 'the setting is fixed while the server runs');
$node->stop;
done_testing();
