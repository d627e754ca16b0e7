# What must never cost a live relation its key: a tombstone that should not be there, a tablespace that is away while records are wiped, a
# key file that a base backup caught before it was born, a raw clone. And a record that was altered to say "plain" opens no door.
use strict;
use warnings;
use File::Copy;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::KeyFile;
use Test::More;

my $token = SealTest::Token->new;
my $node = SealTest->new('primary');
$node->init_seal(checksums => 1, allows_streaming => 1, has_archiving => 1);
$node->start;
$node->set_up_keys($token);
my $directory = $node->make_tablespace('secure', sealed => 1);
my $rows = 'AS SELECT g AS x, md5(g::text) AS y FROM generate_series(1, 500) g';
$node->safe_psql('postgres', "CREATE TABLE one TABLESPACE secure $rows; CREATE TABLE two TABLESPACE secure $rows");
my $sum = 'SELECT count(*), sum(x), md5(string_agg(y, chr(10) ORDER BY x)) FROM';
my $expected = $node->safe_psql('postgres', "$sum one");

# Changes bytes of the slots of tables; the page keeps a right checksum.
sub alter_slots
{
	my ($file, $change, @slots) = @_;
	my $bytes = SealTest::slurp_raw($file);
	for my $slot (@slots)
	{
		$change->(\$bytes, $slot->{at});
		my $block = int($slot->{at} / 8192);
		my $page = substr($bytes, $block * 8192, 8192);
		set_page_checksum(\$page, $block);
		substr($bytes, $block * 8192, 8192) = $page;
	}
	spit_raw($file, $bytes);
	return;
}

# --- every record is marked as dropped long ago, and what only dropped relations hold is wiped ---
my $file = key_file_of($node, 'postgres');
sub bury_all
{
	$node->stop;
	alter_slots($file, sub { my ($bytes, $at) = @_; substr($$bytes, $at + 236, 4) = pack('L', 1); substr($$bytes, $at + 248, 8) = pack('Q', 1) },
		key_slots($file));
	$node->start;
	return;
}
sub everything_reads
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('postgres', "$sum $_"), $expected, "$what: $_ reads right") for qw(one two);
	return;
}
bury_all();
everything_reads('buried records');
# The tablespace is not to be sealed any more, but its tables are: locks keep the operation from them until it is cancelled.
my $locks = $node->background_psql('postgres');
$locks->query_safe('BEGIN; LOCK TABLE one, two');
my $operation = $node->safe_psql('postgres', "SELECT seal.decrypt_tablespace('secure', wait => false)");
$node->safe_psql('postgres', "SELECT seal.cancel_operation($operation)");
$locks->query_safe('COMMIT');
$locks->quit;
$node->fails_like('postgres', "SELECT seal.drop_keyring('default')", qr/holds the keys of relations/, 'the keyring is in use all the same');
is(scalar(grep { $_->{dropped_lsn} } key_slots($file)), 0, 'the marks were taken back: the files are there');
everything_reads('after the wipe');

bury_all();
my $away = "$directory.away";
rename "$directory/PG_15_202209061", $away or die "rename: $!";
$node->fails_like('postgres', "SELECT seal.drop_keyring('default')", qr/holds the keys of relations/, 'records of a tablespace that is away are kept');
rename $away, "$directory/PG_15_202209061" or die "rename: $!";
$node->restart;
everything_reads('after the tablespace came back');
$node->safe_psql('postgres', "SELECT seal.encrypt_tablespace('secure')");

# --- really dropped relations do go ---
$node->safe_psql('postgres', q{SELECT seal.create_keyring('short', 'hsm')});
$node->make_tablespace('brief', sealed => 'short');
$node->safe_psql('postgres', "CREATE TABLE gone TABLESPACE brief $rows; DROP TABLE gone; SELECT seal.decrypt_tablespace('brief')");
my $records = () = key_slots($file);
$node->safe_psql('postgres', "SELECT seal.drop_keyring('short')");
cmp_ok(scalar(() = key_slots($file)), '<', $records, 'a dropped relation\'s record is wiped with its keyring');

# --- a record that says "plain" ---
$node->safe_psql('postgres', 'CREATE TABLE altered (x int) TABLESPACE secure; INSERT INTO altered VALUES (1)');
my $slot = key_slot_of($node, 'postgres', 'altered');
$node->stop;
my $good = SealTest::slurp_raw($file);
alter_slots($file, sub { my ($bytes, $at) = @_; substr($$bytes, $at + 40, 1) = "\0" }, $slot);
$node->start;
$node->fails_like('postgres', 'SELECT * FROM altered', qr/key of sealed block 0/, 'an altered record does not make its relation plain: reading');
$node->fails_like('postgres', 'INSERT INTO altered SELECT generate_series(1, 1000)', qr/key of sealed block/, 'nor for writing');
everything_reads('its neighbours');
$node->stop;
spit_raw($file, $good);
$node->start;
is($node->safe_psql('postgres', 'SELECT x FROM altered'), '1', 'it reads when the record is put back');

# --- a base backup that copied a database's directory before it had a key file, and pg_seal/ after ---
$node->safe_psql('postgres', 'CREATE DATABASE late');
my $restored = SealTest->new('restored');
$restored->init_from_stock_backup($node, standby => 1);
$node->safe_psql('late', "CREATE TABLE three TABLESPACE secure $rows; CREATE TABLE four TABLESPACE secure $rows");
copy($node->data_dir . '/pg_seal/keyfiles', $restored->data_dir . '/pg_seal/keyfiles') or die "copy: $!";
$restored->start;
$node->wait_for_catchup($restored);
is($restored->safe_psql('late', "$sum three"), $expected, 'the restored server reads the database');
$restored->promote;
is($restored->safe_psql('late', "$sum four"), $expected, 'after its promotion');
$restored->restart;
is($restored->safe_psql('late', "$sum three"), $expected, 'and after its restart: its own key file is no stranger');
$restored->safe_psql('late', "CREATE TABLE five TABLESPACE secure $rows");
is($restored->is_sealed_on_disk('late', 'five'), 1, 'it makes new keys there');
$restored->stop;

# --- a clone made by a raw copy, key file included: new records take free places ---
$node->safe_psql('postgres', 'CREATE DATABASE source TABLESPACE secure');
$node->safe_psql('source', "CREATE TABLE many$_ $rows") for 1 .. 40;
$node->safe_psql('postgres', 'CREATE DATABASE clone TEMPLATE source STRATEGY file_copy TABLESPACE secure');
my $slots = () = key_slots(key_file_of($node, 'clone'));
$node->safe_psql('clone', "CREATE TABLE more$_ $rows") for 1 .. 40;
cmp_ok(scalar(() = key_slots(key_file_of($node, 'clone'))), '>=', $slots + 40, 'new records take no other relation\'s place');
is($node->safe_psql('clone', "$sum many$_"), $expected, "many$_ of the clone reads right") for 1, 20, 40;
$node->safe_psql('postgres', 'DROP DATABASE clone; DROP DATABASE source');
is_deeply([ whole_pages($node) ], [], 'key files are whole');
$node->stop;
$node->command_ok([ 'pg_checksums', '--check', '-D', $node->data_dir ], 'pg_checksums passes');
done_testing();
