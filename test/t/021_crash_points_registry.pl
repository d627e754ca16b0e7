# A crash at each step of a change of the key registry leaves either the old or the new registry, whole; the call can be repeated,
# nothing that was sealed is lost. A full disk is an error that changes nothing.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Convert;
use SealTest::Crash;
use SealTest::Ledger;
use Test::More;

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
init_for_crashes($node, checksums => 1);
$node->start;
$node->set_up_keys($token);
$node->make_tablespace('secure', sealed => 1);
$node->make_tablespace('later');
my $ledger = SealTest::Ledger->new($node);
$ledger->make('early');

my @steps = map { "registry.$_" } qw(write before_insert after_insert after_flush after_rename);
my $query = { map { $_->[0] => $_->[1] } (
	[ policy => q{SELECT policy->>'note' FROM seal.keyrings WHERE keyring = 'default'} ],
	[ version => q{SELECT kek_version FROM seal.keyrings WHERE keyring = 'default'} ],
	[ sealed => q{SELECT count(*) FROM seal.tablespaces WHERE tablespace = 'later' AND sealed} ]) };

# Before the WAL record is durable the change cannot be there, after it it must be.
sub outcome_fits
{
	my ($step, $got, $old, $new, $what) = @_;
	my $may = $step =~ /write|before_insert/ ? $got eq $old : $step =~ /after_insert/ ? $got eq $old || $got eq $new : $got eq $new;
	ok($may, "$what: the registry is whole and " . ($got eq $new ? 'new' : 'old')) or diag("got '$got', old '$old', new '$new'");
	return;
}

my $round = 0;
for my $step (@steps)
{
	for my $power (0, 1)
	{
		my $how = "$step, " . ($power ? 'machine' : 'process');
		$round++;

		# one change
		my $old = $node->safe_psql('postgres', $query->{policy});
		die_at($node, $step, qq{SELECT seal.set_policy('default', '{"note": "$round"}')}, power => $power);
		$node->start if $power;
		outcome_fits($step, $node->safe_psql('postgres', $query->{policy}), $old, $round, "$how, set_policy");
		$node->safe_psql('postgres', qq{SELECT seal.set_policy('default', '{"note": "$round again"}')});
		is($node->safe_psql('postgres', $query->{policy}), "$round again", "$how: set_policy works afterwards");

		$old = $node->safe_psql('postgres', $query->{version});
		die_at($node, $step, q{SELECT seal.rotate_kek('default')}, power => $power);
		$node->start if $power;
		my $version = $node->safe_psql('postgres', $query->{version});
		outcome_fits($step, $version, $old, $old + 1, "$how, rotate_kek");
		$node->restart;
		$ledger->make("rotated_$round");
		$ledger->holds("$how, rotate_kek, after a restart");

		# the second of two changes (a counter goes first); the token holds the new KEK by then
		die_at($node, "$step:2", qq{SELECT seal.create_keyring('ring_$round', 'hsm')}, power => $power);
		$node->start if $power;
		my $there = $node->safe_psql('postgres', "SELECT count(*) FROM seal.keyrings WHERE keyring = 'ring_$round'");
		outcome_fits($step, $there, '0', '1', "$how, create_keyring");
		if (!$there)
		{
			$node->fails_like('postgres', qq{SELECT seal.create_keyring('ring_$round', 'hsm')},
				qr/a key 'ring_$round' exists already.*HINT: .*create_kek => false/s, "$how: create_keyring says that the token has the key, and what to do");
			$node->safe_psql('postgres', qq{SELECT seal.create_keyring('ring_$round', 'hsm', create_kek => false)});
		}

		die_at($node, "$step:2", qq{SELECT seal.encrypt_tablespace('later', 'ring_$round')}, power => $power);
		$node->start if $power;
		my $sealed = $node->safe_psql('postgres', $query->{sealed});
		outcome_fits($step, $sealed, '0', '1', "$how, encrypt_tablespace");
		$node->safe_psql('postgres', qq{SELECT seal.encrypt_tablespace('later', 'ring_$round')}) unless $sealed;
		$node->safe_psql('postgres', 'CREATE TABLE probe TABLESPACE later AS SELECT g AS x FROM generate_series(1, 100) g');
		is($node->is_sealed_on_disk('postgres', 'probe'), 1, "$how: the tablespace is sealed");
		$node->restart;
		is($node->safe_psql('postgres', 'SELECT sum(x) FROM probe'), '5050', "$how: its table is readable after a restart");
		$node->safe_psql('postgres', q{DROP TABLE probe});
		$node->safe_psql('postgres', q{SELECT seal.decrypt_tablespace('later')});
		$node->safe_psql('postgres', qq{SELECT seal.drop_keyring('ring_$round')});
	}
}

# --- between a policy and its operation ---
$node->safe_psql('postgres', 'CREATE TABLE waits TABLESPACE later AS SELECT g AS x FROM generate_series(1, 1000) g');
my $former_operation = $node->safe_psql('postgres', 'SELECT max(id) FROM seal.operations');
die_at($node, 'registry.before_insert:3', q{SELECT seal.encrypt_tablespace('later')});
my $lost = wait_until(sub { $node->safe_psql('postgres', "SELECT id FROM seal.operations WHERE id > $former_operation AND target = 'later' AND requested_by = 'postgres'") },
	'the operation that the policy names');
wait_for_state($node, $lost, 'done');
is($node->is_sealed_on_disk('postgres', 'waits'), 1, 'a crash between a policy and its operation: the launcher makes up for it');
$node->safe_psql('postgres', q{DROP TABLE waits; SELECT seal.decrypt_tablespace('later')});

# --- a full disk ---
my %former = map { $_ => $node->safe_psql('postgres', $query->{$_}) } sort keys %$query;
for my $call (q{set_policy('default', '{"note": "full"}')}, q{rotate_kek('default')}, q{create_keyring('second', 'hsm')},
	q{encrypt_tablespace('later')}, q{add_provider('more', 'pkcs11', } . sql_literal($token->config) . ')')
{
	$node->fails_like('postgres', "SET pg_seal.debug_crash_point = 'registry.write:enospc'; SELECT seal.$call",
		qr/could not write file "pg_seal\/registry\.new": No space left on device.*HINT: .*nothing was changed/s,
		"a full disk: $call says so");
}
is_deeply({ map { $_ => $node->safe_psql('postgres', $query->{$_}) } keys %$query }, \%former, 'and nothing was changed');
$node->safe_psql('postgres', q{SELECT seal.rotate_kek('default')});
$ledger->make('last');
$node->restart;
$ledger->holds('at the end');
is($node->safe_psql('postgres', q{SELECT count(*) > 0 AND bool_and(at IS NOT NULL AND result <> 'unreadable') FROM seal.audit_log}), 't',
	'the audit log is readable');
$node->stop;
$node->command_ok([ 'pg_checksums', '--check', '-D', $node->data_dir ], 'pg_checksums passes');
done_testing();
