# A base backup that copied the key file before a conversion began, and the relations' files while it ran: recovery first meets sealed pages whose key it
# will learn of later, writes and reads other pages of those relations meanwhile, and ends with every row, at any point in time.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Convert;
use SealTest::KeyFile;
use Test::More;

my $token = SealTest::Token->new;
for my $checksums (1, 0)
{
	my $with = $checksums ? 'checksums on' : 'checksums off';
	my $node = SealTest->new("primary$checksums");
	$node->init_seal(checksums => $checksums, allows_streaming => 1, has_archiving => 1, conf => "checkpoint_timeout = 1h\nmax_wal_size = 4GB\n");
	$node->start;
	$node->set_up_keys($token, keyring => "ring$checksums");
	$node->safe_psql('postgres', q{
		CREATE TABLE data AS SELECT g AS id, 0 AS n, repeat(md5(g::text), 10) AS pad FROM generate_series(1, 40000) g;
		CREATE INDEX data_id ON data (id);
		VACUUM ANALYZE data});
	my $digest = 'SELECT count(*), sum(n), md5(string_agg(pad, $$,$$ ORDER BY id)) FROM data';

	# --- the backup begins, and takes the key file (if there is one) first ---
	my $session = $node->background_psql('postgres');
	$session->query_safe('SET client_min_messages = warning');
	$session->query_safe("SELECT pg_backup_start('early', true)");
	my %early = map { $_ => SealTest::slurp_raw($_) } key_files($node);
	$node->safe_psql('postgres', 'UPDATE data SET n = n + 1'); # with images
	set_rate($node, 4);
	my $id = begin_convert($node, 'encrypt', 'pg_default', keyring => "ring$checksums");
	my ($file) = $node->relation_files('postgres', 'data');
	wait_until(sub {
			$node->safe_psql('postgres', 'CHECKPOINT');
			my $count = count_marks($file);
			return $count->{sealed};
		}, 'the first pages of the table are sealed', every_ms => 100);
	$node->safe_psql('postgres', "SELECT seal.pause_operation($id)");
	$node->safe_psql('postgres', 'UPDATE data SET n = n + 10 WHERE id BETWEEN 10000 AND 13000; CHECKPOINT');
	my $count = count_marks($file);
	cmp_ok($count->{plain}, '>', 500, "$with: many pages of the table are plain still");

	# --- the rest of the backup ---
	my %copies;
	for my $name ('middle', 'end')
	{
		my $copy = $copies{$name} = SealTest->new("$name$checksums");
		system_or_bail('cp', '-a', $node->data_dir, $copy->data_dir);
		unlink $copy->data_dir . '/postmaster.pid', $copy->data_dir . '/postmaster.opts', glob($copy->data_dir . '/pg_wal/0*');
		for my $path (key_files($copy))
		{
			my $original = $path =~ s/^\Q@{[$copy->data_dir]}\E/$node->data_dir/er;
			if (defined $early{$original}) { spit_raw($path, $early{$original}) }
			else { unlink $path }
		}
	}
	my $label = $session->query_safe('SELECT labelfile FROM pg_backup_stop(true)');
	$session->quit;
	$node->safe_psql('postgres', "SELECT pg_create_restore_point('middle_now')");
	my $expected_middle = $node->safe_psql('postgres', $digest);
	set_rate($node, 0);
	$node->safe_psql('postgres', "SELECT seal.resume_operation($id)");
	wait_for_state($node, $id, 'done');
	$node->safe_psql('postgres', 'UPDATE data SET n = n + 100 WHERE id < 100; SELECT pg_switch_wal()');
	my $expected_end = $node->safe_psql('postgres', $digest);

	for my $name ('middle', 'end')
	{
		my $copy = $copies{$name};
		spit_raw($copy->data_dir . '/backup_label', "$label\n");
		mkdir $copy->backup_dir;
		mkdir $copy->archive_dir;
		$copy->append_conf('postgresql.conf', 'port = ' . $copy->port . "\nunix_socket_directories = '" . $copy->host . "'\nshared_buffers = 512kB\narchive_mode = off\n");
		$copy->append_conf('postgresql.conf', "recovery_target_name = 'middle_now'\nrecovery_target_action = 'promote'\n") if $name eq 'middle';
		$copy->enable_restoring($node, 0);
		my $started = eval { $copy->start };
		my $log = slurp_file($copy->logfile);
		unlike($log, qr/^.*(?:PANIC|FATAL:  (?!the database system)|invalid page in block \d+ of relation [^_\n]*$|is missing|is not sealed).*$/m, "$with, $name: recovery meets nothing it cannot read");
		next unless ok($started, "$with, $name: the restored server starts");
		$copy->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
		is($copy->safe_psql('postgres', $digest), $name eq 'middle' ? $expected_middle : $expected_end, "$with, $name: every row is there");
		$copy->safe_psql('postgres', 'SET enable_seqscan = off; SELECT count(id) FROM data WHERE id > 0');
		if ($name eq 'middle')
		{
			set_rate($copy, 0);
			$copy->safe_psql('postgres', "SELECT seal.resume_operation($id)");
			wait_for_state($copy, $id, 'done');
		}
		$copy->safe_psql('postgres', 'CHECKPOINT');
		is($copy->is_sealed_on_disk('postgres', 'data'), 1, "$with, $name: sealed in the end");
		$copy->stop;
		$copy->start;
		is($copy->safe_psql('postgres', $digest), $name eq 'middle' ? $expected_middle : $expected_end, "$with, $name: and after a restart");
		$copy->stop;
	}
	$node->stop;
}
done_testing();
