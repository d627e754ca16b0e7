# pgseal scan, which knows files and key records alone, and seal.relations, which knows the catalogs and the server's memory, say the same of
# every relation: before, in the middle of and after sealing and unsealing, page by page and in the same words.
use strict;
use warnings;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Convert;
use Test::More;

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
$node->init_seal(checksums => 1, conf => "pg_seal.tombstone_retention = 1h\n");
$node->start;
$node->set_up_keys($token);
$node->make_tablespace('store');
$node->safe_psql('postgres', join ';', map { "CREATE TABLE t$_ TABLESPACE store AS SELECT g AS id, md5(g::text) AS note, repeat('x', 200) AS pad"
			. " FROM generate_series(1, 6000) g; CREATE INDEX t${_}_note ON t$_ (note) TABLESPACE store" } 1 .. 6);
$node->safe_psql('postgres', 'CREATE UNLOGGED TABLE u TABLESPACE store AS SELECT generate_series(1, 3000) AS id; CREATE TABLE e (x int) TABLESPACE store');

# relation (OID of the tablespace and relfilenode) => "state sealed plain zero total"
sub told_by_server
{
	my $rows = $node->safe_psql('postgres', q{SELECT t.oid || '/' || pg_relation_filenode(r.relation), r.state, r.sealed_pages, r.plain_pages, r.zero_pages, r.total_pages
		FROM seal.relations r JOIN pg_tablespace t ON t.spcname = r.tablespace WHERE r.relation::oid >= 16384 ORDER BY 1});
	return { map { my ($relation, @row) = split /\|/; $relation => "@row" } split /\n/, $rows };
}
sub told_by_scan
{
	my ($only, @options) = @_;
	my $database = $node->safe_psql('postgres', q{SELECT oid FROM pg_database WHERE datname = 'postgres'});
	my ($json, $errors) = ('', '');
	my $fine = IPC::Run::run([ 'pgseal', 'scan', $node->data_dir, '--online', '--json', @options ], '>', \$json, '2>', \$errors);
	my $document = decode_json($json);
	my %told;
	for my $relation (@{ $document->{relations} })
	{
		my $name = "$relation->{tablespace}/$relation->{relfilenode}";
		next unless $relation->{database} == $database && exists $only->{$name};
		my %sum = (sealed => 0, plain => 0, zero => 0, damaged => 0);
		for my $fork (values %{ $relation->{forks} }) { $sum{$_} += $fork->{$_} for keys %sum }
		my $total = $sum{sealed} + $sum{plain} + $sum{zero} + $sum{damaged};
		$told{$name} = "$relation->{state} $sum{sealed} $sum{plain} $sum{zero} $total";
	}
	return (\%told, $fine, $document);
}

# agree('claim', 'state' that must be among those seen, ...)
sub agree
{
	my ($what, @states) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql('postgres', 'CHECKPOINT');
	my $server = told_by_server();
	my ($scan, $fine, $document) = told_by_scan($server);
	is_deeply($scan, $server, "$what: pgseal scan and seal.relations say the same of " . keys(%$server) . ' relations');
	ok($fine, "$what: pgseal scan finds nothing wrong") or diag explain [ $document->{problems}, $document->{unexpected_plain} ];
	my %seen = map { /^([a-z ]+?) \d/ ? ($1 => 1) : () } values %$server;
	is(join(', ', grep { !$seen{$_} } @states), '', "$what: relations are " . join(', ', sort keys %seen));
	return;
}

# in_the_middle('encrypt'): begins, and holds the worker still between two pages.
sub in_the_middle
{
	my ($what) = @_;
	set_rate($node, 1);
	my $id = begin_convert($node, $what, 'store');
	my $pid;
	wait_until(sub {
			return operation($node, $id)->{pages_done} > 200
			  && ($pid = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_seal conversion' AND wait_event = 'Extension'}));
		}, 'the worker rests between two pieces');
	kill 'STOP', $pid;
	return ($id, $pid);
}

agree('plain', 'plain');
for my $round (1, 2)
{
	my ($id, $worker) = in_the_middle('encrypt');
	agree("round $round, half sealed", 'sealing');
	kill 'CONT', $worker;
	set_rate($node, 0);
	wait_for_state($node, $id, 'done');
	agree("round $round, sealed", 'sealed');
	my ($told, $fine) = told_by_scan({}, '--tablespace', $node->basedir . '/ts_store');
	ok($fine, "round $round, sealed: no page of the tablespace is plain");

	($id, $worker) = in_the_middle('decrypt');
	agree("round $round, half unsealed", 'unsealing');
	kill 'CONT', $worker;
	set_rate($node, 0);
	wait_for_state($node, $id, 'done');
	agree("round $round, unsealed", 'plain');
}

# --- a scan beside a conversion at full speed, and beside relations that come and go: no false alarm ---
my $mover = start_moving($node, 'store');
my $alarms = 0;
for my $round (1 .. 12)
{
	$node->safe_psql('postgres', "DROP TABLE IF EXISTS passing; CREATE TABLE passing TABLESPACE store AS SELECT generate_series(1, 2000) AS id; CHECKPOINT");
	my (undef, $fine, $document) = told_by_scan({});
	$alarms++ unless $fine;
	diag explain [ $document->{problems}, $document->{unexpected_plain} ] unless $fine;
}
is($alarms, 0, 'twelve scans beside conversions back and forth find nothing wrong');
is_deeply([ stop_moving($mover) ], [], 'and the conversions met no error');
$node->stop;
done_testing();
