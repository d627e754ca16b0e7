# seal.health warns of what pg_seal cannot seal beside temporary files: texts that pg_stat_statements keeps in files of its own (found there by the test). Limits on temporary
# files and what the server tells of their sizes are those of plain files.
use strict;
use warnings;
use SealTest;
use SealTest::Sampler;
use Test::More;

my $canary = 'CANARY-51af-STATEMENT';
my $node = SealTest->new('primary');
$node->init_seal;
$node->start;
$node->safe_psql('postgres', "CREATE EXTENSION pg_seal; CREATE TABLE t AS SELECT md5(g::text) AS s FROM generate_series(1, 60000) g; ANALYZE t");
my $warning = q{SELECT status FROM seal.health WHERE check_name = 'pg_stat_statements'};
is($node->safe_psql('postgres', $warning), '', 'no row without pg_stat_statements');
$node->append_conf('postgresql.conf', "pg_stat_statements.max = 100\n");
$node->restart;
is($node->safe_psql('postgres', $warning), '', 'its settings alone are no reason to warn');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_stat_statements, pg_seal'\n");
$node->restart;
is($node->safe_psql('postgres', $warning), 'warning', 'a warning when it is loaded');
$node->safe_psql('postgres', "CREATE VIEW v AS SELECT '$canary' AS word");
my @found = grep { m{^pg_stat_tmp/} } $node->files_with($canary);
is_deeply(\@found, ['pg_stat_tmp/pgss_query_texts.stat'], 'the constant of a utility statement is there in clear, as the warning says');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_seal'\n");
$node->restart;

# One file of a known size: the server's own accounts of it.
my $sort = q{SET work_mem = '64kB'; SET max_parallel_workers_per_gather = 0; SELECT count(*) FROM (SELECT s FROM t ORDER BY s OFFSET 0) x};
$node->fails_like('postgres', "SET temp_file_limit = '1MB'; $sort", qr/temporary file size exceeds temp_file_limit \(1024kB\)/, 'temp_file_limit holds');
is($node->safe_psql('postgres', "SET temp_file_limit = '16MB'; $sort"), '60000', 'and lets smaller files be');
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_ls_tmpdir()'), '0', 'nothing is left');
my $held = $node->background_psql('postgres', on_error_stop => 1);
$held->query_safe(q{SET work_mem = '64kB'; BEGIN; DECLARE c CURSOR FOR SELECT s FROM t ORDER BY s; FETCH 1 FROM c});
my $told = $node->safe_psql('postgres', 'SELECT sum(size) FROM pg_ls_tmpdir()');
my $on_disk = 0;
$on_disk += -s $_ for glob $node->data_dir . '/base/pgsql_tmp/*';
is($told, $on_disk, 'pg_ls_tmpdir tells the sizes');
is($on_disk % 8192, 0, 'a sort in blocks has a file of blocks: nothing was added to it');
$held->query_safe('COMMIT');
$held->quit;
$node->stop;
done_testing();
