# A crash can leave a key record in the file whose WAL never became durable. On the same server it is in nobody's way; on a server that was
# the primary and now follows its former standby, which has given the same relfilenode to another relation, the new record wins.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use SealTest::Crash;
use SealTest::KeyFile;
use SealTest::Ledger;
use Test::More;

use constant TIMELINE => 1 << 40;    # what a version holds above its counter

my $token = SealTest::Token->new;
my $node = SealTest->new('first');
init_for_crashes($node, checksums => 1, allows_streaming => 1, conf => "wal_writer_delay = 10s\nwal_keep_size = 256MB\n");
$node->start;
$node->set_up_keys($token);
$node->make_tablespace('secure', sealed => 1);
my $ledger = SealTest::Ledger->new($node);
$ledger->make("early_$_") for 1 .. 2;
my $file = key_file_of($node, 'postgres');

# --- the same server ---
my %known = map { $_->{rel_node} => 1 } key_slots($file);
die_at($node, 'keymap.before_publish', 'CREATE TABLE lost (x int) TABLESPACE secure', power => 1);
my ($orphan) = grep { !$known{ $_->{rel_node} } } key_slots($file);
ok($orphan, 'the machine stopped with the record in the file');
my $offset = -s $node->logfile;
$node->start;
my ($high, $low) = slurp_file($node->logfile, $offset) =~ m{redo done at ([0-9A-F]+)/([0-9A-F]+)};
cmp_ok(hex($high) * 2**32 + hex $low, '<', $orphan->{record_lsn}, 'and its WAL record had not become durable');
$ledger->make('afterwards');
$ledger->holds('a lost record on the same server');
cmp_ok(key_slot_of($node, 'postgres', 'afterwards')->{version}, '>', $orphan->{version}, 'versions go on above it');
is(int(key_slot_of($node, 'postgres', 'afterwards')->{version} / TIMELINE), 1, 'on timeline 1');

# --- the former standby takes over ---
my $second = SealTest->new('second');
$second->init_from_stock_backup($node, standby => 1);
$second->start;
$ledger->make('on_both');
$node->wait_for_catchup($second);
$node->stop;    # the standby has everything; what the crash would have left in the key file is put there below
$second->promote;
$second->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
my $on_second = SealTest::Ledger->new($second);
$on_second->{tables} = { %{ $ledger->{tables} } };
$on_second->make('taken_over');
$on_second->holds('the second server');
my $slot = key_slot_of($second, 'postgres', 'taken_over');
is(int($slot->{version} / TIMELINE), 2, 'its versions are of timeline 2');

# The first server's file gets a record, in a free slot, of the number that the second server's new relation has, with a count far above.
my $bytes = SealTest::slurp_raw($file);
my @slots = key_slots($file);
my %taken = map { $_->{slot} => 1 } @slots;
my ($free) = grep { !$taken{$_} } 0 .. 1000;
$orphan = { at => int($free / 31) * 8192 + 256 + $free % 31 * 256 };
die 'the key file is full' if $orphan->{at} >= length $bytes;
substr($bytes, $orphan->{at}, 256) = substr($bytes, $slots[-1]{at}, 256);
substr($bytes, $orphan->{at} + 4, 4) = pack('L', $slot->{rel_node});
substr($bytes, $orphan->{at} + 8, 8) = pack('Q', TIMELINE + 1_000_000_000);
my $block = int($orphan->{at} / 8192);
my $page = substr($bytes, $block * 8192, 8192);
set_page_checksum(\$page, $block);
substr($bytes, $block * 8192, 8192) = $page;
spit_raw($file, $bytes);

$node->enable_streaming($second);
$node->append_conf('postgresql.conf', "recovery_target_timeline = 'latest'\n");
$node->start;
$second->wait_for_catchup($node);
my ($now) = grep { $_->{rel_node} == $slot->{rel_node} } key_slots($file);
is($now->{version}, $slot->{version}, 'the record of the new timeline replaced the orphan');
my $on_first = SealTest::Ledger->new($node);
$on_first->{tables} = $on_second->{tables};
$on_first->holds('the first server, following the second');
$second->safe_psql('postgres', q{INSERT INTO taken_over SELECT g, 'later', NULL FROM generate_series(1000, 3000) g});
$second->wait_for_catchup($node);
$node->safe_psql('postgres', 'CHECKPOINT');
$node->restart;
$second->wait_for_catchup($node);
is($node->safe_psql('postgres', q{SELECT count(*) FROM taken_over WHERE note = 'later'}), '2001', 'what is written later reads there too');
unlike(slurp_file($_->logfile), qr/(ERROR|FATAL|PANIC): .*(key of sealed block|does not verify|recovery ended without)/, $_->name . ': no key was ever missed')
  for $node, $second;
$node->stop;
$second->stop;
done_testing();
