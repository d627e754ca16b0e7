# A tablespace full of data, one relation of every kind in each of two databases, is sealed where it lies while applications write into it:
# afterwards every page of every fork is sealed or zero, no text of a row is in any file, everything that tells about it agrees page by
# page, and no row has changed. The way back leaves no page marked. And once more.
use strict;
use warnings;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Convert;
use SealTest::Everything;
use SealTest::KeyFile;
use SealTest::Load;
use Test::More;

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
$node->init_seal(checksums => 1, conf => "max_connections = 60\nwal_level = replica\nautovacuum = on\nautovacuum_naptime = 1s\n");
$node->start;
$node->set_up_keys($token);
$node->make_tablespace('store');
$node->make_tablespace('open');
$node->safe_psql('postgres', 'CREATE DATABASE inner_one TABLESPACE store');
my @all = (SealTest::Everything->new($node, tablespace => 'store'), SealTest::Everything->new($node, database => 'inner_one'));
$_->make for @all;
my $text = $all[0]->text;
$node->safe_psql('inner_one', 'CREATE EXTENSION pg_seal');
$node->safe_psql('postgres', "CREATE TABLE outside TABLESPACE open AS SELECT '$text' AS note");
$node->safe_psql('postgres', 'CHECKPOINT');
my @before = map { $_->digest . $_->unlogged_digest } @all;
tablespace_is($node, 'store', 'plain', 'before: no page of the tablespace is sealed');
cmp_ok(scalar(tablespace_holds($node, 'store', $text)), '>', 20, 'and the text stands in many of its files');

# --- applications: the benchmark in both databases, and rows that come and go in every kind of relation ---
my $script = q{
BEGIN;
INSERT INTO busy (note) SELECT 'busy ' || g FROM generate_series(1, 20) g;
DELETE FROM busy WHERE id IN (SELECT id FROM busy ORDER BY id LIMIT 12 FOR UPDATE SKIP LOCKED);
UPDATE busy SET note = note || '+' WHERE id IN (SELECT id FROM busy ORDER BY id DESC LIMIT 5 FOR UPDATE SKIP LOCKED);
INSERT INTO busy_unlogged VALUES (:client_id, 'x');
SELECT nextval('busy_counter'), nextval('busy_unlogged_counter');
COMMIT;
CREATE TEMP TABLE passing AS SELECT generate_series(1, 100) AS x;
DROP TABLE passing;
};
my $load = SealTest::Load->new($node);
for my $database ('postgres', 'inner_one')
{
	$node->safe_psql($database, q{SET default_tablespace = store;
		CREATE TABLE busy (id serial PRIMARY KEY, note text); CREATE INDEX ON busy USING gin (to_tsvector('simple', note)); CREATE INDEX ON busy USING hash (note);
		CREATE UNLOGGED TABLE busy_unlogged (id int, note text); CREATE INDEX ON busy_unlogged (id);
		CREATE SEQUENCE busy_counter; CREATE UNLOGGED SEQUENCE busy_unlogged_counter});
	$node->command_ok([ 'pgbench', '-i', '-q', '-s', 1, '-h', $node->host, '-p', $node->port, '--tablespace=store', '--index-tablespace=store', $database ],
		"the benchmark's tables in $database");
}
my $sums = q{SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(tbalance) FROM pgbench_tellers)
	AND (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(bbalance) FROM pgbench_branches)};

sub start_load
{
	for my $database ('postgres', 'inner_one')
	{
		$load->run(undef, database => $database, clients => 2);
		$load->run($script, database => $database, clients => 2);
	}
	return;
}

# What seal.relations, seal.is_encrypted and pgseal scan say, against our own count of the pages.
sub everything_agrees
{
	my ($what) = @_;
	$node->safe_psql('postgres', 'CHECKPOINT');
	my (%expected, %told, %encrypted, %truth);
	for my $database ('postgres', 'inner_one')
	{
		my $rows = $node->safe_psql($database, q{SELECT relation, pg_relation_filepath(relation), sealed_pages, plain_pages, zero_pages, total_pages,
			seal.is_encrypted(relation) FROM seal.relations WHERE tablespace = 'store' AND state <> 'temporary of another session'});
		for my $row (split /\n/, $rows)
		{
			my ($relation, $path, $sealed, $plain, $zero, $total, $is) = split /\|/, $row;
			my $marks = count_marks(grep { m{^\Q@{[ $node->data_dir ]}\E/\Q$path\E(_fsm|_vm|_init)?(\.\d+)?\z} } glob($node->data_dir . "/$path*"));
			$expected{"$database $relation"} = "$marks->{sealed} $marks->{plain} $marks->{zero}";
			$told{"$database $relation"} = "$sealed $plain $zero";
			$encrypted{"$database $relation"} = $is;
			# an empty relation counts as sealed when it has a key
			$truth{"$database $relation"} = $marks->{sealed} + $marks->{plain} ? ($marks->{plain} ? 'f' : 't') : $is;
		}
	}
	cmp_ok(scalar keys %expected, '>', 100, "$what: relations of two databases are looked at");
	is_deeply(\%told, \%expected, "$what: seal.relations counts every page as it lies on disk");
	is_deeply(\%encrypted, \%truth, "$what: and seal.is_encrypted says the same of each relation");
	my $marks = tablespace_marks($node, 'store');
	my $json = '';
	# plain pages are what is to be counted in the plain state: the exit code is judged by tablespace_is
	my @plain_ok = $marks->{plain} ? ('--plain-ok') : ();
	my $ok = IPC::Run::run([ 'pgseal', 'scan', $node->data_dir, '--online', '--json', '--quiet', '--tablespace', $node->basedir . '/ts_store', @plain_ok ], '>', \$json);
	ok($ok, "$what: pgseal scan finds nothing wrong");
	my $totals = decode_json($json)->{totals};
	is("$totals->{sealed} $totals->{plain} $totals->{zero} $totals->{damaged}", "$marks->{sealed} $marks->{plain} $marks->{zero} 0", "$what: pgseal scan counts the same pages");
	return;
}

for my $round (1, 2)
{
	# --- sealed while they write ---
	start_load();
	my $began = time;
	my $id = convert($node, 'encrypt', 'store');
	note 'sealed in ', time - $began, ' s under load';
	tablespace_is($node, 'store', 'sealed', "round $round: when encrypt_tablespace returns, every page on disk is sealed or zero, without a checkpoint of ours");
	my $operation = operation($node, $id);
	is($operation->{state}, 'done', "round $round: the operation is done");
	cmp_ok($operation->{pages_done}, '>', 1000, "round $round: its pages are counted");
	is($operation->{pages_done}, $operation->{pages_total}, "round $round: all of them");
	$load->stop_without_errors("round $round: no statement of the load failed while it was sealed");
	is_deeply([ tablespace_holds($node, 'store', $text, 'busy 1') ], [], "round $round: no row's text is in any file of the tablespace");
	is(join("\n", map { $_->digest . $_->unlogged_digest } @all), join("\n", @before), "round $round: every row is what it was");
	is($node->safe_psql($_, $sums), 't', "round $round: the sums of the benchmark agree in $_") for 'postgres', 'inner_one';
	$_->is_intact("round $round: amcheck finds nothing in $_->{database}") for @all;
	everything_agrees("round $round, sealed");
	is($node->is_sealed_on_disk('postgres', 'outside'), 0, "round $round: another tablespace stays plain");

	# --- what a crash makes of it: unlogged relations are reset from their init forks, by a raw copy ---
	$node->crash;
	$node->start;
	for my $i (0, 1)
	{
		my $digest = $all[$i]->digest;
		is($digest, substr($before[$i], 0, length $digest), "round $round: after a crash every logged row of $all[$i]{database} is what it was");
		is($node->safe_psql($all[$i]{database}, "INSERT INTO unlogged (note) VALUES ('$text'); SELECT count(*) FROM unlogged; SELECT nextval('unlogged_counter')"), "1\n500",
			"round $round: its unlogged relations are empty and can be used");
	}
	tablespace_is($node, 'store', 'sealed', "round $round: still every page is sealed", checkpoint => 1);
	$node->safe_psql($_->{database}, "TRUNCATE unlogged RESTART IDENTITY; INSERT INTO unlogged (note, long) SELECT '$text ' || g,"
		  . " CASE WHEN g % 50 = 0 THEN repeat('$text', 400) END FROM generate_series(1, 2000) g; SELECT setval('unlogged_counter', 500)") for @all;
	is(join("\n", map { $_->digest . $_->unlogged_digest } @all), join("\n", @before), "round $round: unlogged rows written again read back");

	# --- and back ---
	start_load();
	convert($node, 'decrypt', 'store');
	tablespace_is($node, 'store', 'plain', "round $round: when decrypt_tablespace returns, no page on disk is marked");
	$load->stop_without_errors("round $round: no statement of the load failed while it was unsealed");
	is(join("\n", map { $_->digest . $_->unlogged_digest } @all), join("\n", @before), "round $round: every row is what it was, unsealed");
	$_->is_intact("round $round: amcheck finds nothing in $_->{database}, unsealed") for @all;
	everything_agrees("round $round, unsealed");
	cmp_ok(scalar(tablespace_holds($node, 'store', $text)), '>', 20, "round $round: the text stands in the files again");
}
is_deeply([ whole_pages($node) ], [], 'key files are whole, no relation has two records');
$node->stop;
$node->command_ok([ 'pg_checksums', '--check', '-D', $node->data_dir ], 'pg_checksums passes');
done_testing();
