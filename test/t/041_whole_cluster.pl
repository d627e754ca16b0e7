# A whole cluster is sealed: pg_default and pg_global, catalogs, statistics, password hashes, template databases. It restarts, recovers,
# grows new databases, rewrites its catalogs and serves the stock tools; names and hashes are in no file. And the way out:
# everything unsealed, the library taken away, a plain server finds everything.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Convert;
use SealTest::Everything;
use SealTest::KeyFile;
use Test::More;

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
$node->init_seal(checksums => 1, allows_streaming => 1, conf => "password_encryption = 'scram-sha-256'\n");
$node->start;
$node->set_up_keys($token);
my $all = SealTest::Everything->new($node);
$all->make;

# Names, comments, statistics, passwords: in catalogs of a database, in shared ones, in the templates.
my $name = 'planted_9c41d7';
$node->safe_psql('postgres', qq{
	CREATE TABLE ${name}_table (${name}_column text);
	INSERT INTO ${name}_table SELECT '${name} common value' FROM generate_series(1, 500);
	ANALYZE ${name}_table;
	COMMENT ON TABLE ${name}_table IS '${name} comment';
	CREATE FUNCTION ${name}_function() RETURNS int LANGUAGE sql AS 'SELECT 1 /* ${name} */';
	CREATE ROLE ${name}_role LOGIN PASSWORD '${name} password';
	COMMENT ON ROLE ${name}_role IS '${name} comment';
	CREATE DATABASE ${name}_database;
	ALTER DATABASE ${name}_database SET application_name = '${name}';
});
$node->safe_psql('template1', "CREATE TABLE ${name}_template AS SELECT '${name} row' AS x");
my $hash = $node->safe_psql('postgres', "SELECT rolpassword FROM pg_authid WHERE rolname = '${name}_role'");
like($hash, qr/^SCRAM-SHA-256/, 'the role has a password hash');
my @secrets = ($name, $hash, $all->text);
sub where_it_stands
{
	$node->safe_psql('postgres', 'CHECKPOINT');
	return (tablespace_holds($node, 'pg_default', @secrets), tablespace_holds($node, 'pg_global', @secrets));
}
my @stands = where_it_stands();
cmp_ok(scalar(@stands), '>', 10, 'before: names and hashes stand in many files') or diag "@stands";
my $rows = $all->digest;
my $unlogged = $all->unlogged_digest;

# --- sealed ---
my $began = time;
convert($node, 'encrypt', 'pg_global');
tablespace_is($node, 'pg_global', 'sealed', 'pg_global: every page on disk is sealed or zero');
convert($node, 'encrypt', 'pg_default');
tablespace_is($node, 'pg_default', 'sealed', 'pg_default: every page of every database, template0 included, is sealed or zero');
note 'the cluster was sealed in ', time - $began, ' s';

sub sealed_throughout
{
	my ($when) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	tablespace_is($node, 'pg_default', 'sealed', "$when: pg_default is sealed", checkpoint => 1);
	tablespace_is($node, 'pg_global', 'sealed', "$when: pg_global is sealed");
	is_deeply([ where_it_stands() ], [], "$when: no name, comment, statistic or hash is in any file of base/ and global/");
	is($all->digest, $rows, "$when: every row is what it was");
	is($node->safe_psql('postgres', "SELECT obj_description('${name}_table'::regclass), (SELECT most_common_vals FROM pg_stats WHERE tablename = '${name}_table'), ${name}_function()"),
		"$name comment|{\"$name common value\"}|1", "$when: catalogs and statistics read right");
	return;
}
sealed_throughout('sealed');
is($all->unlogged_digest, $unlogged, 'unlogged rows are there');
is($node->safe_psql('postgres', 'SELECT count(*) FROM seal.relations WHERE state <> $$sealed$$'), '0', 'seal.relations: every relation, catalogs included, is sealed');
is($node->safe_psql('postgres', q{SELECT bool_and(seal.is_encrypted(oid)) FROM pg_class WHERE relname IN ('pg_class', 'pg_authid', 'pg_database', 'pg_statistic', 'pg_largeobject')}),
	't', 'seal.is_encrypted says so of mapped and shared catalogs');
$node->restart;
sealed_throughout('restarted');

# The password still opens the door, and a wrong one does not.
$node->append_conf('pg_hba.conf', "local all ${name}_role scram-sha-256\n");
my $hba = slurp_file($node->data_dir . '/pg_hba.conf');
spit_raw($node->data_dir . '/pg_hba.conf', "local all ${name}_role scram-sha-256\n$hba");
$node->reload;
{
	local $ENV{PGPASSWORD} = "$name password";
	is(($node->psql('postgres', 'SELECT current_user', extra_params => [ '-U', "${name}_role" ]))[1], "${name}_role", 'the role logs in with its password');
	local $ENV{PGPASSWORD} = 'another';
	my ($status, undef, $err) = $node->psql('postgres', 'SELECT 1', extra_params => [ '-U', "${name}_role", '-w' ]);
	like($err, qr/password authentication failed/, 'and not with another');
}

# --- crashes, and what makes catalogs anew ---
$node->safe_psql('postgres', "CREATE TABLE ${name}_late AS SELECT generate_series(1, 1000) AS x");
$node->crash;
$node->start;
$node->safe_psql('postgres', 'TRUNCATE unlogged RESTART IDENTITY');
sealed_throughout('crashed and recovered');
$node->safe_psql('postgres', "VACUUM FULL $_") for qw(pg_class pg_attribute pg_type pg_proc pg_statistic pg_authid pg_database pg_shdescription pg_tablespace pg_index);
$node->safe_psql('postgres', 'REINDEX SYSTEM postgres');
$node->safe_psql('postgres', 'VACUUM (FREEZE, ANALYZE)');
sealed_throughout('catalogs rewritten');
for my $strategy ('wal_log', 'file_copy')
{
	for my $template ('template0', 'template1', "${name}_database")
	{
		my $new = "${name}_${strategy}_$template";
		$node->safe_psql('postgres', "CREATE DATABASE $new TEMPLATE $template STRATEGY $strategy");
		$node->safe_psql($new, "CREATE TABLE ${name}_in_new AS SELECT '$name' AS x; VACUUM FULL pg_class");
		is($node->safe_psql($new, "SELECT x FROM ${name}_in_new"), $name, "$strategy from $template: the new database works");
	}
}
is($node->safe_psql("${name}_file_copy_template1", "SELECT x FROM ${name}_template"), "$name row", 'what the template holds is in its copy');
sealed_throughout('new databases');
$node->crash;
$node->start;
is($node->safe_psql("${name}_wal_log_template1", "SELECT x FROM ${name}_in_new"), $name, 'after a crash a new database is there');
sealed_throughout('crashed with new databases');

# --- stock tools ---
my ($dump) = PostgreSQL::Test::Utils::run_command([ 'pg_dumpall', '-h', $node->host, '-p', $node->port ]);
is(scalar(grep { index($dump, $_) >= 0 } "$name common value", "$name row", $hash), 3, 'pg_dumpall reads everything');
my $copy = SealTest->new('copy');
$copy->init_from_stock_backup($node, standby => 1);
$copy->start;
$node->wait_for_catchup($copy);
is($copy->safe_psql('postgres', "SELECT count(*) FROM ${name}_late"), '1000', 'a standby made by the stock pg_basebackup reads');
tablespace_is($copy, 'pg_default', 'sealed', 'and its files are sealed', checkpoint => 1);
$copy->stop;
$node->stop;
$node->command_ok([ 'pg_checksums', '--check', '-D', $node->data_dir ], 'pg_checksums passes');
$node->command_ok([ 'pgseal', 'scan', $node->data_dir, '--tablespace', 'pg_default', '--tablespace', 'pg_global', '--quiet' ], 'pgseal scan finds no plain page');
my ($in, $out, $err) = ("SELECT count(*) AS answer FROM ${name}_late\n", '', '');
IPC::Run::run([ 'postgres', '--single', '-D', $node->data_dir, 'postgres' ], '<', \$in, '>', \$out, '2>', \$err);
like($out, qr/answer = "1000"/, 'single-user mode reads the sealed catalogs') or diag $err;

# A server without the library cannot even look up a role: it says what it met, and changes nothing.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->start(fail_ok => 1);
my $status = $node->psql('postgres', 'SELECT 1');
isnt($status, 0, 'without the library nobody connects to the sealed cluster');
like(slurp_file($node->logfile), qr/invalid page in block 0 of relation/, 'and the log calls its pages invalid');
$node->stop('immediate') if defined $node->{_pid};
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_seal'\n");
$node->start;
sealed_throughout('after a start without the library');

# --- the way out ---
convert($node, 'decrypt', 'pg_default');
convert($node, 'decrypt', 'pg_global');
tablespace_is($node, 'pg_default', 'plain', 'unsealed: no page of pg_default is marked');
tablespace_is($node, 'pg_global', 'plain', 'unsealed: no page of pg_global is marked');
$node->stop;
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->command_ok([ 'pg_checksums', '--check', '-D', $node->data_dir ], 'pg_checksums passes on the unsealed cluster');
$node->start;
is($all->digest, $rows, 'a server without the library reads every row');
is($node->safe_psql('postgres', "SELECT rolpassword FROM pg_authid WHERE rolname = '${name}_role'"), $hash, 'and every catalog');
is($node->safe_psql("${name}_file_copy_template1", "SELECT x FROM ${name}_template"), "$name row", 'in every database');
$all->is_intact('amcheck finds nothing there');
$node->safe_psql('postgres', 'VACUUM FULL; CREATE DATABASE plain_again; DROP EXTENSION pg_seal CASCADE');
$node->crash;
$node->start;
is($all->digest, $rows, 'and recovers from a crash');
$node->stop;
done_testing();
