# A keyring with protection 'hsm': every relation's key is wrapped inside the token. Tables in it survive restart, crash, many
# relations at once, a rotated KEK; their keys in key files are not under any keyring key.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Crash;
use SealTest::KeyFile;
use SealTest::Ledger;
use Test::More;

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
init_for_crashes($node, checksums => 1);
$node->start;
$node->set_up_keys($token, keyring => 'inside', protection => 'hsm');
$node->make_tablespace('secure', sealed => 'inside');
is($node->safe_psql('postgres', q{SELECT protection FROM seal.keyrings WHERE keyring = 'inside'}), 'hsm', 'seal.keyrings says hsm');
my $ledger = SealTest::Ledger->new($node);
$ledger->make('first');
$ledger->holds('made');
is($node->is_sealed_on_disk('postgres', 'first'), 1, 'sealed on disk');
my $slot = key_slot_of($node, 'postgres', 'first');
my $mechanism = ord substr(SealTest::slurp_raw(key_file_of($node, 'postgres')), $slot->{at} + 38, 1);
cmp_ok($mechanism, '>=', 2, "its key is wrapped by the provider (mechanism $mechanism)");

$node->restart;
$ledger->holds('restart');
$node->crash;
$node->start;
$ledger->holds('crash');

# --- more relations than the pool holds ---
$node->safe_psql('postgres', join '', map { "CREATE TABLE many_$_ (x int PRIMARY KEY USING INDEX TABLESPACE secure) TABLESPACE secure; INSERT INTO many_$_ VALUES ($_);" } 1 .. 150);
$node->restart;
is($node->safe_psql('postgres', 'SELECT sum(x) FROM (' . join(' UNION ALL ', map { "SELECT x FROM many_$_" } 1 .. 150) . ') s'), 150 * 151 / 2,
	'300 relations, each with a key wrapped in the token, after a restart');

# --- a crash while one is made, and recovery that needs keys of the token ---
die_at($node, 'keymap.before_publish', 'CREATE TABLE lost (x int) TABLESPACE secure');
$ledger->make('second');
$ledger->holds('a crashed backend');
die_at($node, 'keymap.after_insert', 'CREATE TABLE lost (x int) TABLESPACE secure', power => 1);
$node->start;
$ledger->make('third');
$node->crash;
$node->start;
$ledger->holds('crash after crash');

# --- rotation: older keys stay under the older KEK, new ones come under the new one ---
$node->safe_psql('postgres', q{SELECT seal.rotate_kek('inside')});
$ledger->make('rotated');
$node->restart;
$ledger->holds('a rotated KEK');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT wrapped_by, ', ' ORDER BY wrapped_by) FROM seal.keys WHERE key_type = 'DEK' AND keyring = 'inside'}),
	'KEK version 1, KEK version 2', 'seal.keys tells which KEK version wraps how many');

# --- beside a standard keyring: a move changes the keyring ---
$node->safe_psql('postgres', q{SELECT seal.create_keyring('default', 'hsm')});
$node->make_tablespace('standard', sealed => 1);
$node->safe_psql('postgres', q{ALTER TABLE first SET TABLESPACE standard});
is($node->safe_psql('postgres', q{SELECT keyring FROM seal.relations WHERE relation = 'first'::regclass}), 'default', "the destination's keyring wins");
$ledger->holds('moved');
$node->fails_like('postgres', q{SELECT seal.drop_keyring('inside')}, qr/in use|holds the keys/, 'a keyring in use is not dropped');

# --- the token is away: what is loaded goes on, the pool still serves; a restart needs it ---
$token->hide;
$ledger->holds('the token is away');
$node->safe_psql('postgres', 'CREATE TABLE pooled TABLESPACE secure AS SELECT 42 AS x; CHECKPOINT');
is($node->safe_psql('postgres', 'SELECT x FROM pooled'), '42', 'a new table takes a key from the pool');
$token->show;
$node->restart;
is($node->safe_psql('postgres', 'SELECT x FROM pooled'), '42', 'readable after a restart');
$ledger->holds('at the end');
$node->stop;
$node->command_ok([ 'pg_checksums', '--check', '-D', $node->data_dir ], 'pg_checksums passes');
done_testing();
