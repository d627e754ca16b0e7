# pg_rewind, run by pgseal, joins a former primary to the standby that was promoted: both had sealed WAL, and both went on alone. Relations were made on either
# side (with the same relfilenodes), dropped, and re-keyed on one side only; WAL keys and keyrings were changed on both. From a running server, from its stopped
# directory, and with the target's WAL in its archive alone.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Tools;
use SealTest::Wal;
use Test::More;

my $token = SealTest::Token->new;
my $canary = 'canary-that-went-through-rewinding';

sub digest
{
	my ($node) = @_;
	return $node->safe_psql('postgres', q{
		SELECT (SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM shared t), (SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM rotated t),
			(SELECT string_agg(format('%s %s %s', relname, reltablespace <> 0, relkind), ',' ORDER BY relname) FROM pg_class
				WHERE relnamespace = 'public'::regnamespace);
		SELECT format('SELECT %L, count(*), md5(string_agg(t::text, %L ORDER BY t::text)) FROM %I t', relname, ',', relname)
			FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relpersistence = 'p' ORDER BY relname \gexec
	});
}

# What one of the two does after the split.
sub goes_its_way
{
	my ($node, $who, $rows) = @_;
	$node->safe_psql('postgres', qq{
		CREATE TABLE made_by_$who (id int PRIMARY KEY USING INDEX TABLESPACE secure, word text) TABLESPACE secure;
		INSERT INTO made_by_$who SELECT g, '$canary-$who-' || g FROM generate_series(1, $rows) g;
		UPDATE shared SET word = '$canary-$who-' || id WHERE id % 7 = 0;
		CREATE TABLE same_name (id int, who text) TABLESPACE secure;
		INSERT INTO same_name SELECT g, '$who' FROM generate_series(1, 500) g;
		CREATE UNLOGGED TABLE loose_$who (id int) TABLESPACE secure;
		INSERT INTO loose_$who SELECT generate_series(1, 100);
		CREATE INDEX ON loose_$who (id) TABLESPACE secure;
	});
	$node->safe_psql('postgres', 'VACUUM shared');
	return;
}

sub rewound_from
{
	my ($how) = @_;
	my $old = SealTest->new("old_$how");
	$old->init_seal(checksums => 1, allows_streaming => 1, has_archiving => 1, extra => ['--wal-segsize=1'],
		conf => "wal_keep_size = 100MB\nwal_log_hints = on\nwal_recycle = off");
	$old->start;
	$old->set_up_keys($token, keyring => "default", provider => 'hsm') if $how eq 'server';
	$old->safe_psql('postgres', 'CREATE EXTENSION IF NOT EXISTS pg_seal; SELECT seal.add_provider(\'hsm\', \'pkcs11\', ' . sql_literal($token->config)
		. "); SELECT seal.create_keyring('default', 'hsm', kek => 'kek-$how')") if $how ne 'server';
	$old->make_tablespace($_, sealed => 1) for qw(secure rekeyed);
	enable_wal($old);
	$old->safe_psql('postgres', qq{
		CREATE TABLE shared (id int PRIMARY KEY USING INDEX TABLESPACE secure, word text) TABLESPACE secure;
		INSERT INTO shared SELECT g, '$canary-' || g FROM generate_series(1, 5000) g;
		CREATE TABLE rotated TABLESPACE rekeyed AS SELECT g AS id, '$canary-' || g AS word FROM generate_series(1, 3000) g;
		CREATE TABLE dropped_there TABLESPACE secure AS SELECT * FROM shared;
		CREATE TABLE dropped_here TABLESPACE secure AS SELECT * FROM shared;
	});
	my $new = SealTest->new("new_$how");
	is((run_tool('pgseal', 'exec', '-D', $old->data_dir, '--', 'pg_basebackup', '-D', $new->data_dir, '-d', $old->connstr('postgres'), '-c', 'fast', '--no-sync',
			map { ('-T', $old->basedir . "/ts_$_=" . $new->basedir . "/ts_$_") } qw(secure rekeyed)))[0], 0, "$how: a standby is made by pg_basebackup");
	mkdir $new->archive_dir;
	$new->append_conf('postgresql.conf', 'port = ' . $new->port . "\nunix_socket_directories = '" . $new->host . "'\narchive_mode = off\n");
	$new->enable_streaming($old);
	$new->start;
	$old->wait_for_catchup($new);
	$new->promote;

	goes_its_way($old, 'here', 300);
	goes_its_way($new, 'there', 900);
	$old->safe_psql('postgres', "DROP TABLE dropped_here; SELECT seal.rotate_wal_key(); SELECT seal.create_keyring('mine', 'hsm', kek => 'mine-$how')");
	$old->safe_psql('postgres', 'INSERT INTO shared SELECT g, \'only here\' FROM generate_series(10001, 12000) g');
	$new->safe_psql('postgres', q{DROP TABLE dropped_there});
	# Under a new key on this side alone.
	$new->safe_psql('postgres', q{SELECT seal.decrypt_tablespace('rekeyed')});
	$new->safe_psql('postgres', q{SELECT seal.encrypt_tablespace('rekeyed')});
	$new->safe_psql('postgres', q{SELECT seal.rotate_wal_key()});
	$new->safe_psql('postgres', q{INSERT INTO shared SELECT g, 'only there' FROM generate_series(20001, 22000) g});
	$new->safe_psql('postgres', q{SELECT seal.rotate_wal_key(); SELECT seal.rotate_kek('default')});
	my $audit_before = $old->safe_psql('postgres', 'SELECT md5(string_agg(a::text, \',\' ORDER BY seq)), max(seq) FROM seal.audit_log a');
	my ($digest_before, $seq) = split /\|/, $audit_before;

	# --- the tool ---
	my @source = $how eq 'directory' ? ('--source-pgdata', $new->data_dir) : ('--source-server', $new->connstr('postgres'));
	my $expected = digest($new);
	$new->stop if $how eq 'directory';
	$old->safe_psql('postgres', 'CHECKPOINT');
	$old->stop($how eq 'crashed' ? 'immediate' : 'fast');    # pg_rewind runs the server in single-user mode first
	my $conf = slurp_raw($old->data_dir . '/postgresql.conf');
	my @more;
	if ($how eq 'archive')
	{
		$old->append_conf('postgresql.conf', 'restore_command = \'cp "' . $old->archive_dir . '/%f" "%p"\'');
		my @local = segments_in($old->data_dir . '/pg_wal');
		pop @local;
		-f $old->archive_dir . '/' . s{.*/}{}r and unlink $_ for @local;
		@more = ('-c');
	}
	isnt((run_tool('pg_rewind', '--dry-run', '-D', $old->data_dir, @source, @more))[0], 0, "$how: pg_rewind alone cannot read sealed WAL") if $how ne 'crashed';
	my ($status, $out, $err) = run_tool('pgseal', 'exec', '--', 'pg_rewind', '--no-sync', '-D', $old->data_dir, @source, @more);
	is($status, 0, "$how: pgseal exec -- pg_rewind") or die "$out$err";
	open my $file, '>', $old->data_dir . '/postgresql.conf' or die;
	print $file $conf, "archive_mode = off\n";
	close $file;
	$new->start if $how eq 'directory';
	$old->enable_streaming($new);
	my $offset = -s $old->logfile;
	$old->start;
	$new->safe_psql('postgres', q{INSERT INTO same_name VALUES (0, 'after')});
	$new->wait_for_catchup($old, 'replay', $new->lsn('insert'));
	is(digest($old), digest($new), "$how: every row is the new primary's");
	is($old->safe_psql('postgres', "SELECT count(*) FROM made_by_there; SELECT to_regclass('made_by_here') IS NULL"), "900\nt", "$how: relations of one side are there, of the other gone");
	is($old->safe_psql('postgres', 'SELECT string_agg(generation || state, \',\' ORDER BY generation) FROM seal.wal_keys'),
		$new->safe_psql('postgres', 'SELECT string_agg(generation || state, \',\' ORDER BY generation) FROM seal.wal_keys'), "$how: the WAL keys are the new primary's");
	is((split /\|/, $old->safe_psql('postgres', "SELECT md5(string_agg(a::text, ',' ORDER BY seq)), 1 FROM seal.audit_log a WHERE seq <= $seq"))[0], $digest_before,
		"$how: the audit log is still the node's own");
	unlike(slurp_raw($old->logfile) =~ s/\A.{$offset}//sr, qr/^.*(?:PANIC|terminated by signal|(?:ERROR|FATAL|WARNING): .*(?:key record|is not sealed|invalid page|page verification|WAL key)).*$/m,
		"$how: nothing in its log about keys or pages");
	# It becomes the primary in turn, and is as good as any.
	$new->stop;
	$old->promote;
	$old->safe_psql('postgres', q{INSERT INTO same_name VALUES (-1, 'again'); INSERT INTO loose_there VALUES (1); CREATE TABLE fresh TABLESPACE secure AS SELECT * FROM shared});
	$old->safe_psql('postgres', 'SELECT seal.rotate_wal_key()');
	$old->crash;
	$old->start;
	is($old->safe_psql('postgres', 'SELECT count(*) FROM fresh; SELECT count(*) FROM same_name'), $old->safe_psql('postgres', 'SELECT count(*) FROM shared') . "\n502",
		"$how: promoted, it survives a crash of its own");
	$old->stop;
	for my $node ($old, $new)
	{
		my ($code, $text, $wrong) = run_tool('pgseal', 'scan', '--summary', $node->data_dir);
		is($code, 0, "$how: pgseal scan finds nothing amiss in " . $node->name) or diag "$text$wrong";
		is_deeply([ $node->files_with($canary, wal => 1, no_checkpoint => 1) ], [], "$how: no text of a row lies in clear in " . $node->name);
	}
	return;
}

rewound_from($_) for qw(server directory archive crashed);
done_testing();
