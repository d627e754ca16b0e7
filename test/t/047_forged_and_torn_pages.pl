# A plain page with a right checksum that somebody puts into a sealed relation is refused, not believed. And torn writes of pages that are on
# their way from one form to the other - heap, index, free space and visibility maps, pages that only a hint bit dirtied - lose nothing: some
# sectors old, some new, at every cut, with data checksums and without. SEAL_TORN_ROUNDS, SEAL_TORN_SEED.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Convert;
use SealTest::KeyFile;
use SealTest::Load;
use Test::More;
use Time::HiRes qw(usleep);

my $rounds = $ENV{SEAL_TORN_ROUNDS} || (($ENV{SEAL_KILL_ROUNDS} || 0) > 10 ? 12 : 3);
my $seed = $ENV{SEAL_TORN_SEED} || time;
srand $seed;
note "rounds $rounds, SEAL_TORN_SEED=$seed";

# --- forged pages ---
{
	my $token = SealTest::Token->new;
	my $node = SealTest->new('forged');
	$node->init_seal(checksums => 1);
	$node->start;
	$node->set_up_keys($token);
	$node->make_tablespace('store');
	my $make = q{TABLESPACE store AS SELECT g AS id, 'row ' || g AS note FROM generate_series(1, 3000) g};
	$node->safe_psql('postgres', "CREATE TABLE victim $make; CREATE TABLE born $make; CREATE INDEX victim_id ON victim (id) TABLESPACE store;"
		  . 'CREATE TABLE forger (id int, note text) TABLESPACE store; VACUUM victim');
	$node->safe_psql('postgres', "INSERT INTO forger SELECT g, 'forged' FROM generate_series(1, 3000) g; VACUUM forger; CHECKPOINT");
	my ($forger) = $node->relation_files('postgres', 'forger');
	my ($vm) = grep { /_vm$/ } $node->relation_files('postgres', 'forger');
	my @forged = pages_of($forger);
	my @forged_vm = pages_of($vm);
	ok(!page_mark($forged[3])->{sealed}, 'a plain page is at hand');
	convert($node, 'encrypt', 'store');
	$node->safe_psql('postgres', "CREATE TABLE sealed_at_birth (id int, note text) TABLESPACE store; INSERT INTO sealed_at_birth SELECT g, 'row ' || g FROM generate_series(1, 3000) g;"
		  . 'DELETE FROM victim WHERE id % 2 = 0; CHECKPOINT');
	my @victims = ('victim', 'sealed_at_birth');
	my %good = map { $_ => SealTest::slurp_raw(($node->relation_files('postgres', $_))[0]) } @victims;
	my %file = map { $_ => ($node->relation_files('postgres', $_))[0] } @victims;
	my ($victim_vm) = grep { /_vm$/ } $node->relation_files('postgres', 'victim');
	my $good_vm = SealTest::slurp_raw($victim_vm);
	my $count = $node->safe_psql('postgres', 'SET enable_seqscan = off; SELECT count(id) FROM victim WHERE id > 0');

	my $forge = sub {
		for my $victim (@victims)
		{
			my $page = $forged[3];
			set_page_checksum(\$page, 3);
			my $bytes = $good{$victim};
			substr($bytes, 3 * 8192, 8192) = $page;
			spit_raw($file{$victim}, $bytes);
		}
		# all visible, all frozen: a believed map would let an index-only scan count rows that are deleted
		my @map = @forged_vm;
		set_page_checksum(\$map[$_], $_) for 0 .. $#map;
		spit_raw($victim_vm, join '', @map);
		return;
	};
	for my $how ('stopped', 'crashed')
	{
		if ($how eq 'stopped') { $node->stop }
		else { $node->safe_psql('postgres', 'CHECKPOINT; CREATE TABLE IF NOT EXISTS unrelated AS SELECT 1 AS x'); $node->crash }    # replay brings no image of the page
		$forge->();
		$node->start;
		for my $victim (@victims)
		{
			$node->fails_like('postgres', "SELECT count(*) FROM $victim", qr/invalid page in block 3 of relation/, "$how: a plain page with a right checksum in $victim is refused");
			is($node->safe_psql('postgres', "SELECT count(*) FROM $victim WHERE ctid < '(3,0)' AND note = 'forged'"), '0', "$how: no forged row is seen in $victim");
			$node->fails_like('postgres', "UPDATE $victim SET note = 'x' WHERE ctid = '(3,1)'", qr/invalid page in block 3/, "$how: nor written to");
			is($node->safe_psql('postgres', "SELECT seal.is_encrypted('$victim')"), 'f', "$how: seal.is_encrypted tells of $victim");
		}
		my $by_index = $node->safe_psql('postgres', "SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(id) FROM victim WHERE id BETWEEN 1 AND 200");
		is($by_index, '100', "$how: a forged visibility map brings back no deleted row");
		like(slurp_file($node->logfile), qr/is not sealed|not sealed/, "$how: the log says what is wrong");
		$node->stop;
		spit_raw($file{$_}, $good{$_}) for @victims;
		spit_raw($victim_vm, $good_vm);
		$node->start;
		is($node->safe_psql('postgres', 'SET enable_seqscan = off; SELECT count(id) FROM victim WHERE id > 0'), $count, "$how: put right, everything reads");
	}
	# Once the tablespace is unsealed, plain pages are what belongs there; a sealed page of the former key does not.
	convert($node, 'decrypt', 'store');
	is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT note) FROM victim'), '1500|1500', 'unsealed, everything reads');
	$node->stop;
}

# --- torn pages ---

sub mix
{
	my ($old, $new, $from) = @_;
	my @old = unpack('(a8192)*', $old);
	my @new = unpack('(a8192)*', $new);
	my %count = (mixed => $from, changed_form => 0);
	for my $block (0 .. $#new)
	{
		next if $block > $#old || $old[$block] eq $new[$block] || $old[$block] !~ /[^\0]/ || $new[$block] !~ /[^\0]/;
		my $cut = $count{mixed} % 17;    # prefixes, suffixes, random subsets
		my $kind = int($count{mixed} / 17) % 3;
		my @from_new = map { $kind == 0 ? $_ < $cut : $kind == 1 ? $_ >= $cut : int rand 2 } 0 .. 15;
		$count{changed_form}++ if page_mark($old[$block])->{sealed} != page_mark($new[$block])->{sealed};
		$new[$block] = join '', map { substr(($from_new[$_] ? $new[$block] : $old[$block]), $_ * 512, 512) } 0 .. 15;
		$count{mixed}++;
	}
	return ($count{mixed}, $count{changed_form}, join '', @new);
}

sub redo_point
{
	my ($node) = @_;
	my ($out) = PostgreSQL::Test::Utils::run_command([ 'pg_controldata', $node->data_dir ]);
	my ($redo) = $out =~ /Latest checkpoint's REDO location:\s*(\S+)/ or die 'no redo location';
	return $redo;
}

for my $checksums (1, 0)
{
	my $with = $checksums ? 'checksums on' : 'checksums off';
	my $token = SealTest::Token->new;
	my $node = SealTest->new($checksums ? 'torn_with' : 'torn_without');
	$node->init_seal(checksums => $checksums, conf => join("\n", 'shared_buffers = 1MB', 'max_connections = 20', 'bgwriter_lru_maxpages = 100', 'checkpoint_timeout = 1h', 'max_wal_size = 2GB',
			"wal_level = replica\n"));
	$node->start;
	$node->set_up_keys($token);
	$node->make_tablespace('store');
	# The rows are never read before it begins: their hint bits come to disk by evictions in the middle. Half of them are deleted and inserted again on the way,
	# so that both maps change; the content stays the same for ever.
	$node->safe_psql('postgres', q{
		CREATE EXTENSION amcheck;
		CREATE TABLE kept (id int, note text, pad text) TABLESPACE store;
		INSERT INTO kept SELECT g, md5(g::text), repeat(chr(65 + g % 26), 100) FROM generate_series(1, 40000) g;
		CREATE INDEX kept_id ON kept (id) TABLESPACE store;
		CREATE TABLE busy (id int, pad text) TABLESPACE store;
		INSERT INTO busy SELECT g, repeat('x', 150) FROM generate_series(1, 20000) g});
	my $digest = 'SELECT count(*), sum(id), md5(string_agg(note || pad, $$,$$ ORDER BY id)) FROM kept';
	my $by_index = 'SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(*), sum(id) FROM kept WHERE id > 0';
	my $expected = $node->safe_psql('postgres', q{SELECT count(*), sum(g), md5(string_agg(md5(g::text) || repeat(chr(65 + g % 26), 100), $$,$$ ORDER BY g)) FROM generate_series(1, 40000) g});
	my $torn = 0;
	my ($valid, $changed, %forks) = (0, 0);
	my @directions = ('encrypt', 'decrypt');
	for (my $try = 1; $valid < $rounds && $try <= 4 * $rounds; $try++)
	{
		# What stands from the former round goes to its end first, or, in every third round, is turned round in the middle of its relations.
		my @stand = split /\n/, $node->safe_psql('postgres', q{SELECT id FROM seal.operations WHERE state IN ('pending', 'running')});
		set_rate($node, 0);
		for my $id (@stand)
		{
			if ($try % 3 == 0) { $node->psql('postgres', "SELECT seal.cancel_operation($id)") }
			else { wait_for_state($node, $id, 'done') }
		}
		set_rate($node, 1 + int rand 6);
		my $load = SealTest::Load->new($node);
		$load->run("SELECT count(*) FROM kept;\n\\sleep 50 ms\nSELECT count(*) FROM busy;\n", name => 'hint bits');
		$load->run("\\set k random(1, 40000)\nUPDATE kept SET pad = pad WHERE id = :k;\n", name => 'updates');
		$load->run("BEGIN;\nWITH gone AS (DELETE FROM busy WHERE id % 10 = :client_id RETURNING *) INSERT INTO busy SELECT * FROM gone;\nCOMMIT;\nVACUUM busy;\nVACUUM kept;\n", name => 'maps');
		my @files = map { $node->relation_files('postgres', $_) } qw(kept kept_id busy);
		$node->safe_psql('postgres', 'CHECKPOINT');
		my $redo = redo_point($node);
		my %old = map { $_ => SealTest::slurp_raw($_) } @files;
		my $id = begin_convert($node, $directions[0], 'store');
		@directions = reverse @directions;
		wait_until(sub { my $operation = operation($node, $id); $operation->{pages_done} > 0 || $operation->{state} eq 'done' }, 'pages are on their way', every_ms => 20);
		usleep(int rand 1_200_000);
		my $operation = $node->safe_psql('postgres', "SELECT kind, state, pages_done, pages_total, phase, relation, detail FROM seal.operations WHERE id = $id");
		$node->crash;
		$load->died_with_server("$with, try $try: the load met no error");
		# Only what was written since the last checkpoint may be torn: that one had the rest made durable.
		if (redo_point($node) eq $redo)
		{
			$valid++;
			for my $file (grep { -f $_ } @files)
			{
				my ($mixed, $form, $bytes) = mix($old{$file}, SealTest::slurp_raw($file), $torn);
				my ($fork) = $file =~ /_(fsm|vm)$/;
				$forks{ $fork || ($file eq $files[0] ? 'heap' : 'other') } += $mixed - $torn;
				$torn = $mixed;
				$changed += $form;
				spit_raw($file, $bytes);
			}
		}
		note "try $try, valid rounds $valid, $torn torn, $changed between forms: $operation";
		my $offset = -s $node->logfile;
		$node->start;
		is($node->safe_psql('postgres', $digest), $expected, "$with, try $try: the table holds what was written");
		is($node->safe_psql('postgres', $by_index), $expected =~ s/\|[^|]*\z//r, "$with, try $try: and so says its index");
		is($node->safe_psql('postgres', 'SELECT count(*), min(length(pad)) FROM busy'), '20000|150', "$with, try $try: the busy table too");
		# Redo keeps free space and visibility as it goes, and meets a torn page of a map before the record that restores it: the server starts
		# that page anew, sealed or not.
		my $log = slurp_file($node->logfile, $offset);
		$log =~ s/^.* WARNING:  page verification failed.*\n(?:.* CONTEXT: .*\n)?(.* WARNING:  invalid page in block \d+ of relation \S+_(?:fsm|vm); zeroing out page)/$1/mg;
		$log =~ s/^.* WARNING:  invalid page in block \d+ of relation \S+_(?:fsm|vm); zeroing out page\n//mg;
		unlike($log, qr/^.*(?:PANIC|terminated by signal|(?:ERROR|FATAL|WARNING): .*(?:key record|is not sealed|invalid page|page verification)).*$/m, "$with, try $try: no torn page was seen by a query");
	}
	cmp_ok($valid, '>=', $rounds, "$with: as many rounds as were asked for had pages to tear") or diag 'checkpoints came too often';
	cmp_ok($torn, '>', 100 * $rounds, "$with: pages were torn");
	cmp_ok($changed, '>', 10 * $rounds, "$with: many of them while their form changed");
	cmp_ok($forks{$_} || 0, '>', 0, "$with: $_ pages among them") for qw(heap other fsm vm);
	note "$with: $torn pages torn, $changed of them between two forms; ", join ', ', map { "$_ $forks{$_}" } sort keys %forks;
	set_rate($node, 0);
	wait_until(sub { $node->safe_psql('postgres', q{SELECT count(*) FROM seal.operations WHERE state IN ('pending', 'running')}) eq '0' }, 'operations end');
	convert($node, 'encrypt', 'store');
	tablespace_is($node, 'store', 'sealed', "$with: at the end everything is sealed", claimed => 1);
	is($node->safe_psql('postgres', q{SELECT count(*) FROM verify_heapam('kept'); SELECT bt_index_check('kept_id', true); SELECT count(*) FROM verify_heapam('busy')}), "0\n\n0", "$with: amcheck finds nothing");
	$node->stop;
	$node->command_ok([ 'pg_checksums', '--check', '-D', $node->data_dir ], "$with: pg_checksums passes") if $checksums;
}
done_testing();
