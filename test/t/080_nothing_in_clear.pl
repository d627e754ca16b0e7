# Every kind of load runs on a cluster with a standby and two archives while a sampler reads the files that live only for a moment; then primary and standby
# are killed with signal 9 and everything on disk is searched: data directories, tablespaces, archives, a base backup.
# Sealed (pg_default, pg_global, WAL, temporary and spill files): none of the planted texts anywhere but for the limits that
# are listed here. In clear: every one of them in each place where the load must leave it. So the search finds what is there.
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Canary;
use SealTest::Wal;
use Test::More;
use Time::HiRes qw(usleep);

# Limits (docs/threat-model.md): what is found in clear all the same. The server log is not below the data directory here.
my %limits = (
	gid => [ 'primary twophase', 'standby twophase', 'backup twophase' ],    # names of prepared transactions
);

my $rows = 12000;
my %text = map { $_ => canary($_) } qw(heap toast btree gin spgist brin stats matview copied unlogged prepared gid large body comment tname cname defaults view label check
  seqname role shared cloned copydb sort merge hashed agg window held built tablespace gmerge phash spilled notified passing standby logged);

# A session that does something and then waits with its files open until the server dies.
sub hold
{
	my ($sessions, $node, $sql) = @_;
	my $script = $node->basedir . '/hold_' . @$sessions . '.sql';
	PostgreSQL::Test::Utils::append_to_file($script, "$sql;\nSELECT pg_sleep(600);\n");
	my $session = { text => '' };
	my @command = ('psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', $script);
	$session->{run} = IPC::Run::start(\@command, '<', \undef, '>', '/dev/null', '2>', \$session->{text});
	push @$sessions, $session;
	return;
}

# OFFSET 0: the text is made below the join, not above it.
sub series { my ($kind, $n) = @_; return "(SELECT g, '$text{$kind} ' || md5(g::text) AS t FROM generate_series(1, " . ($n || $rows) . ") g OFFSET 0)" }

# The load, to where everything lies on disk and the sessions hold their temporary files open. Returns the paths of the relations where a text must be.
sub load
{
	my ($node, $standby, $sessions) = @_;
	# First: a slot waits for every transaction under way, prepared ones too.
	$node->safe_psql('postgres', q{CREATE TABLE spilled (g int, t text); CREATE PUBLICATION p FOR TABLE spilled});
	$node->safe_psql('postgres', q{SELECT pg_create_logical_replication_slot('spilling', 'test_decoding'); SELECT pg_create_logical_replication_slot('streaming', 'pgoutput')});
	$node->safe_psql('postgres', qq{
		CREATE TABLE heap AS SELECT g AS id, '$text{heap} ' || g AS t, repeat('x', 60) AS pad FROM generate_series(1, 3000) g;
		CREATE TABLE toasted (t text); ALTER TABLE toasted ALTER t SET STORAGE EXTERNAL;
		INSERT INTO toasted SELECT repeat('$text{toast} ' || g, 300) FROM generate_series(1, 20) g;
		CREATE TABLE btree AS SELECT '$text{btree} ' || g AS t FROM generate_series(1, 2000) g; CREATE INDEX btree_i ON btree (t);
		CREATE TABLE gin AS SELECT ARRAY['$text{gin} ' || g] AS t FROM generate_series(1, 500) g; CREATE INDEX gin_i ON gin USING gin (t);
		CREATE TABLE spgist AS SELECT '$text{spgist} ' || md5(g::text) AS t FROM generate_series(1, 500) g; CREATE INDEX spgist_i ON spgist USING spgist (t);
		CREATE INDEX spgist_h ON spgist USING hash (t);
		CREATE TABLE brin AS SELECT '$text{brin} ' || g AS t FROM generate_series(1, 500) g; CREATE INDEX brin_i ON brin USING brin (t);
		CREATE TABLE frequent AS SELECT '$text{stats} ' || g % 3 AS t FROM generate_series(1, 2000) g; ANALYZE frequent;
		CREATE MATERIALIZED VIEW matview AS SELECT '$text{matview} ' || g AS t FROM generate_series(1, 300) g;
		CREATE TABLE copied (t text); COPY copied FROM PROGRAM 'yes $text{copied} | head -500';
		CREATE UNLOGGED TABLE unlogged AS SELECT '$text{unlogged} ' || g AS t FROM generate_series(1, 500) g;
		SELECT lo_from_bytea(0, convert_to(repeat('$text{large} ', 500), 'UTF8'));
		CREATE FUNCTION f() RETURNS text LANGUAGE sql AS \$\$ SELECT '$text{body}'::text \$\$;
		COMMENT ON TABLE heap IS '$text{comment}';
		CREATE TABLE $text{tname} ($text{cname} text DEFAULT '$text{defaults}', CHECK ($text{cname} <> '$text{check}'));
		CREATE VIEW v AS SELECT '$text{view}'::text AS t;
		CREATE TYPE e AS ENUM ('$text{label}');
		CREATE SEQUENCE $text{seqname};
		CREATE ROLE $text{role}; COMMENT ON ROLE $text{role} IS '$text{shared}';
		CREATE TABLE prepared (t text); BEGIN; INSERT INTO prepared VALUES ('$text{prepared}'); PREPARE TRANSACTION '$text{gid}';
		CREATE TABLE large_a AS SELECT * FROM @{[ series('gmerge') ]} s; CREATE TABLE large_b AS SELECT * FROM @{[ series('phash', 20000) ]} s; ANALYZE large_a, large_b;
		SELECT pg_logical_emit_message(false, 'load', '$text{logged}');
		CREATE DATABASE template;});
	$node->safe_psql('template', qq{CREATE TABLE cloned AS SELECT '$text{cloned} ' || g AS t FROM generate_series(1, 500) g});
	$node->safe_psql('postgres', "CREATE DATABASE $text{copydb} TEMPLATE template STRATEGY file_copy");
	$node->safe_psql('postgres', 'CREATE DATABASE by_log TEMPLATE template STRATEGY wal_log');

	# --- sessions that hold temporary files ---
	my $small = "SET work_mem = '64kB'; SET maintenance_work_mem = '1MB'; SET temp_buffers = '800kB'; SET enable_nestloop = off; SET max_parallel_workers_per_gather = 0; SET hash_mem_multiplier = 1;";
	my $cursor = sub { my ($query) = @_; return "$small BEGIN; DECLARE c CURSOR FOR $query; FETCH 3 FROM c;" };
	my $parallel = 'SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;';
	hold($sessions, $node, $cursor->('SELECT * FROM ' . series('sort') . ' s ORDER BY t'));
	hold($sessions, $node, 'SET enable_hashjoin = off;' . $cursor->('SELECT * FROM ' . series('merge') . ' a JOIN (SELECT g % 50 AS g FROM generate_series(1, 5000) g) b USING (g)'));
	hold($sessions, $node, 'SET enable_mergejoin = off;' . $cursor->('SELECT * FROM ' . series('hashed') . ' a JOIN ' . series('hashed') . ' b USING (g)'));
	hold($sessions, $node, 'SET enable_sort = off;' . $cursor->('SELECT t, count(*) FROM ' . series('agg') . ' s GROUP BY t'));
	hold($sessions, $node, $cursor->('SELECT t, count(*) OVER (), sum(g) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) FROM ' . series('window') . ' s'));
	hold($sessions, $node, "$small BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT * FROM " . series('held') . ' s; COMMIT; FETCH 3 FROM c;');
	hold($sessions, $node, 'SET temp_tablespaces = store;' . $cursor->('SELECT * FROM ' . series('tablespace') . ' s ORDER BY t'));
	hold($sessions, $node, "$small CREATE TEMP TABLE passing AS SELECT * FROM " . series('passing') . ' s;');
	# Shared filesets last as long as the parallel plan: the sleep is in it.
	hold($sessions, $node, "$small $parallel SELECT count(t), pg_sleep(600) FROM (SELECT t FROM large_a ORDER BY t OFFSET 1) s");
	hold($sessions, $node, "$small $parallel SET enable_mergejoin = off; SELECT count(a.t || b.t), pg_sleep(600) FROM large_b a JOIN large_b b ON a.t = b.t || ''");
	hold($sessions, $standby, $cursor->('SELECT * FROM ' . series('standby') . ' s ORDER BY t'));

	# --- logical decoding of a transaction that does not end: spilled by one, streamed to a subscriber by another ---
	$node->safe_psql('postgres', 'CREATE DATABASE subscriber');
	$node->safe_psql('subscriber', 'CREATE TABLE spilled (g int, t text); CREATE SUBSCRIPTION s CONNECTION ' . sql_literal($node->connstr('postgres'))
		  . " PUBLICATION p WITH (create_slot = false, slot_name = 'streaming', streaming = on, copy_data = false)");
	push @$sessions, { text => '' };
	$sessions->[-1]{run} = IPC::Run::start([ 'pg_recvlogical', '-d', $node->connstr('postgres'), '-S', 'spilling', '--start', '--no-loop', '-f', '/dev/null' ], '>', '/dev/null', '2>', \$sessions->[-1]{text});
	hold($sessions, $node, "SET application_name = 'writer'; BEGIN; INSERT INTO spilled SELECT * FROM " . series('spilled') . ' s;');

	# --- notifications that somebody has yet to read: more than the buffers of the queue ---
	hold($sessions, $node, 'LISTEN n; BEGIN;');
	$node->poll_query_until('postgres', q{SELECT count(*) = 12 FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) or die 'the sessions do not come to rest: ' . join '', map { $_->{text} } @$sessions;
	$node->safe_psql('postgres', "SELECT pg_notify('n', '$text{notified} ' || repeat(md5(g::text), 200)) FROM generate_series(1, 60) g");

	# --- what passes quickly: the sampler's part ---
	# One of those who sort together is late: what the others wrote is there meanwhile.
	$node->safe_psql('postgres', q{CREATE FUNCTION late(g int) RETURNS int LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$ BEGIN IF g = 50000 THEN PERFORM pg_sleep(1); END IF; RETURN g; END $$});
	$node->safe_psql('postgres', "$parallel SET maintenance_work_mem = '96MB'; CREATE TABLE built AS SELECT * FROM " . series('built', 60000) . ' s;'
		  . ' CREATE INDEX built_p ON built (t, late(g)); DROP INDEX built_p; CREATE INDEX built_i ON built (t); SET maintenance_work_mem = \'1MB\'; CREATE INDEX built_s ON built (t, g); CLUSTER built USING built_i; VACUUM FULL built;');
	$node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_stat_replication_slots WHERE slot_name = 'spilling' AND spill_count > 0 OR slot_name = 'streaming' AND stream_count > 0});
	SealTest::Wal::wait_for(sub { glob $node->data_dir . '/pg_replslot/spilling/*.spill' }, 'a spill file');
	SealTest::Wal::wait_for(sub { glob $node->data_dir . '/base/pgsql_tmp/*.fileset/*.changes*' }, 'changes of a streamed transaction');

	# --- everything on disk, on both nodes, in the archives ---
	$node->safe_psql('postgres', 'CHECKPOINT; SELECT pg_switch_wal()');
	$node->wait_for_catchup($standby);
	$standby->safe_psql('postgres', 'CHECKPOINT');
	my %relation = (heap => 'heap', btree => 'btree_i', gin => 'gin_i', spgist => 'spgist_i', brin => 'brin_i', stats => 'pg_statistic', matview => 'matview', copied => 'copied', unlogged => 'unlogged',
		prepared => 'prepared', large => 'pg_largeobject', body => 'pg_proc', comment => 'pg_description', tname => 'pg_class', cname => 'pg_attribute', defaults => 'pg_attrdef', view => 'pg_rewrite',
		label => 'pg_enum', check => 'pg_constraint', seqname => 'pg_class', role => 'pg_authid', shared => 'pg_shdescription', copydb => 'pg_database');
	my %path = map { $_ => $node->safe_psql('postgres', "SELECT pg_relation_filepath('$relation{$_}')") } keys %relation;
	$path{toast} = $node->safe_psql('postgres', q{SELECT pg_relation_filepath(reltoastrelid) FROM pg_class WHERE relname = 'toasted'});
	for my $database ('template', $text{copydb}, 'by_log')
	{
		$path{"cloned in $database"} = $node->safe_psql($database, q{SELECT pg_relation_filepath('cloned')});
	}
	return %path;
}

sub archived
{
	my ($node) = @_;
	my $segment = $node->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_lsn())');
	$node->safe_psql('postgres', 'SELECT pg_logical_emit_message(false, $$end$$, $$$$); SELECT pg_switch_wal()');
	return $segment;
}

sub run
{
	my ($sealed) = @_;
	my $what = $sealed ? 'sealed' : 'clear';
	my $primary = SealTest->new("primary_$what");
	my $conf = join "\n", 'max_connections = 60', 'wal_level = logical', 'logical_decoding_work_mem = 64kB', 'max_prepared_transactions = 5', 'max_worker_processes = 20', 'max_parallel_workers = 8',
	  'max_wal_size = 1GB', 'wal_keep_size = 512MB', 'max_logical_replication_workers = 4', "wal_compression = off\n";
	$primary->init_seal(checksums => 1, allows_streaming => 'logical', has_archiving => 1, load => $sealed, conf => $conf);
	$primary->start;
	if ($sealed)
	{
		$primary->set_up_keys(SealTest::Token->new);
		enable_wal($primary);
		$primary->safe_psql('postgres', "SELECT seal.encrypt_tablespace('$_')") for qw(pg_default pg_global);
	}
	my $store = $primary->make_tablespace('store', sealed => $sealed);
	my $standby = SealTest->new("standby_$what");
	{
		# Before the load: what comes later comes by streaming.
		local *PostgreSQL::Test::Utils::command_ok = sub { 1 };    # pg_verifybackup reads WAL, which takes pgseal exec once it is sealed
		$standby->init_from_stock_backup($primary, standby => 1, options => [ '-X', 'fetch' ]);
	}
	my $own = $standby->archive_dir;
	$standby->append_conf('postgresql.conf', "archive_mode = always\narchive_command = 'cp %p $own/%f'\n");
	$standby->start;

	my $sampler = SealTest::Canary::Sampler->new(primary => $primary->data_dir, standby => $standby->data_dir);
	my (@sessions, %path);
	my $found = SealTest::Canary::Found->new;
	eval {
		%path = load($primary, $standby, \@sessions);
		my $segment = archived($primary);
		SealTest::Wal::wait_for(sub { -f $primary->archive_dir . "/$segment" && -f "$own/$segment" }, 'the segments in both archives');
		$primary->command_ok([ 'pg_basebackup', '-D', $primary->basedir . '/taken', '-h', $primary->host, '-p', $primary->port, '-X', 'fetch', '--checkpoint=fast', '--no-sync', '-T', "$store=" . $primary->basedir . '/taken_store' ],
			"$what: a stock base backup");
		1;
	} or diag $@;
	my $complaints = $@;
	my @left = glob $primary->data_dir . '/base/pgsql_tmp/*';
	$standby->crash;
	$primary->crash;
	$sampler->stop($found);
	for my $session (@sessions) { eval { $session->{run}->finish } }
	is($complaints, '', "$what: the load ran");
	is_deeply([ grep { /ERROR|FATAL(?!.*(?:shutdown|crash|terminating))/ } map { split /\n/, $_->{text} } @sessions ], [], "$what: and no session met an error");
	$found->search('primary', $primary->data_dir);
	$found->search('standby', $standby->data_dir);
	$found->search('backup', $primary->basedir . '/taken');
	$found->search('archive', $primary->archive_dir, flat => 1);
	$found->search('standby archive', $own, flat => 1);
	return ($found, \%path, $primary, $standby, @left);
}

# What passes by quickly was there to be read, sealed or not.
sub was_there
{
	my ($found, $what) = @_;
	cmp_ok($found->bytes($_), '>', 30000, "$what: there was something to search in '$_'")
	  for 'primary temp', 'primary fileset', 'primary changes', 'primary spill', 'primary notify', 'primary tablespace temp', 'primary temp table', 'standby temp', 'archive', 'standby archive', 'primary wal', 'standby wal', 'backup wal', 'backup data',
	  'standby data', 'primary global';
	return;
}

# --- in clear: the search finds every text in every place ---
{
	my ($found, $path) = run(0);
	was_there($found, 'clear');
	my @logged = qw(heap toast btree gin spgist brin stats matview copied prepared large body comment tname cname defaults view label check seqname role shared cloned copydb);
	my %expected = (
		(map { $_ => [ 'primary data', 'primary wal', 'standby data', 'standby wal', 'archive', 'standby archive', 'backup data' ] } @logged),
		(map { $_ => [ 'primary global', 'standby global', 'backup global', 'archive' ] } qw(role shared copydb)),
		(map { $_ => ['primary temp'] } qw(sort merge hashed agg window held gmerge)),
		(map { $_ => ['primary fileset'] } qw(phash built)),
		gid => [ 'primary twophase', 'primary wal', 'archive' ],
		unlogged => ['primary data'],
		tablespace => ['primary tablespace temp'],
		passing => ['primary temp table'],
		notified => ['primary notify'],
		standby => ['standby temp'],
		logged => [ 'primary wal', 'archive', 'standby wal' ],
		spilled => [ 'primary spill', 'primary changes', 'primary wal', 'archive' ]);
	for my $kind (sort keys %expected)
	{
		my %at = map { $_ => 1 } $found->places($kind);
		is_deeply([ grep { !$at{$_} } @{ $expected{$kind} } ], [], "clear: '$kind' is found in " . join ', ', @{ $expected{$kind} });
	}
	for my $kind (sort keys %$path)
	{
		my ($text) = split / /, $kind;
		my %in = map { $_ => 1 } $found->paths($text);
		ok($in{"primary $path->{$kind}"}, "clear: '$kind' in the file of its relation");
		ok($in{"standby $path->{$kind}"}, "clear: '$kind' in that file of the standby") unless $kind eq 'unlogged';
	}
	is_deeply([ grep { my @places = $found->places($_); !@places } sort keys %text ], [], 'clear: no text was planted in vain');
}

# --- sealed: none ---
{
	my ($found, $path, $primary, $standby, @left) = run(1);
	was_there($found, 'sealed');
	my %allowed = map { my $kind = $_; map { ("$kind in $_" => 1) } @{ $limits{$kind} } } keys %limits;
	is(join("\n", grep { my ($at) = /^(.*?):/; !$allowed{$at} } $found->all), '', 'sealed: no planted text in any file, but for the listed limits');
	# WAL is sealed from the second segment on.
	for my $directory ($primary->archive_dir, $standby->archive_dir, $primary->basedir . '/taken/pg_wal')
	{
		my $count = count_wal_marks(grep { !m{/000000010000000000000001$} } wal_segments($directory));
		cmp_ok($count->{sealed}, '>', $directory =~ /taken/ ? 0 : 100, "sealed WAL pages in $directory");
		is($count->{plain}, 0, 'and no page with contents in clear');
	}
	# Everything is there and readable after recovery.
	$primary->start;
	is($primary->safe_psql('postgres', "SELECT count(*) FROM heap WHERE t LIKE '$text{heap} %'"), '3000', 'after the crash the rows are there');
	is($primary->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts'), $text{gid}, 'and the prepared transaction');
	$primary->safe_psql('postgres', "COMMIT PREPARED '$text{gid}'");
	is($primary->safe_psql('postgres', 'SELECT t FROM prepared'), $text{prepared}, 'which can be committed');
	cmp_ok(scalar @left, '>', 5, 'the crash left temporary files behind');
	is_deeply([ grep { -e $_ } @left ], [], 'which are gone');
	$standby->start;
	$primary->wait_for_catchup($standby);
	is($standby->safe_psql('postgres', 'SELECT t FROM prepared'), $text{prepared}, 'on the standby too');
	$standby->stop;
	$primary->stop;
}
done_testing();
