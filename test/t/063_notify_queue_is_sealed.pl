# Payloads of NOTIFY lie sealed in pg_notify, whoever wrote the page, and every listener gets all of them in order.
use strict;
use warnings;
use SealTest;
use SealTest::Sampler;
use Test::More;

my $canary = 'CANARY-c0de-NOTIFIED';
my $node = SealTest->new('primary');
$node->init_seal;
$node->start;
my $sampler = SealTest::Sampler->new($node, text => $canary, files => ['pg_notify']);

for my $mode (qw(off on))
{
	$node->append_conf('postgresql.conf', "pg_seal.encrypt_temp_files = $mode\n");
	$node->restart;
	my $listener = $node->background_psql('postgres');
	$listener->query_safe('LISTEN channel');
	$listener->query_safe('BEGIN');    # holds the queue
	$listener->query_safe('SELECT 1');
	# Several senders at once; 8 pages are buffered, more are written. 33 pages are one segment.
	my @senders;
	for my $sender (1 .. 3)
	{
		my $pid = fork;
		die "fork: $!" if !defined $pid;
		if ($pid == 0)
		{
			open STDOUT, '>', '/dev/null';
			my $sql = join '', map { "SELECT pg_notify('channel', '$sender-$_-' || repeat('$canary', 200 + $_));" } 1 .. 60;
			exec('psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), map { ('-c', $_) } split /(?<=;)/, $sql) or POSIX::_exit(127);
		}
		push @senders, $pid;
	}
	for (@senders) { waitpid $_, 0; is($?, 0, "$mode: a sender is content") }
	$sampler->forget->look;
	cmp_ok($sampler->bytes, '>', 300_000, "$mode: the queue is on disk");
	if ($mode eq 'off') { isnt(scalar($sampler->found), 0, 'off: the text is in it') }
	else { is_deeply([ $sampler->found ], [], 'on: the text is not in it') }
	# What was sent is delivered when the transaction ends.
	my $got = $listener->query('COMMIT') . $listener->query('SELECT 1') . $listener->query('SELECT 1');
	for my $sender (1 .. 3)
	{
		my @numbers = $got =~ /"$sender-(\d+)-(?:$canary)+"/g;
		is_deeply(\@numbers, [ 1 .. 60 ], "$mode: all of sender $sender, in order");
	}
	my %length;
	$length{$1} = length $2 while $got =~ /"1-(\d+)-((?:$canary)+)"/g;
	is_deeply([ grep { $length{$_} != (200 + $_) * length $canary } sort keys %length ], [], "$mode: whole");
	$listener->quit;
}

# The queue of a killed server: unreadable, and emptied by the next start.
my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN channel');
$listener->query_safe('BEGIN');
$listener->query_safe('SELECT 1');
$node->safe_psql('postgres', "SELECT count(pg_notify('channel', g || repeat('$canary', 300))) FROM generate_series(1, 40) g");
$node->crash;
$sampler->forget->look;
cmp_ok($sampler->bytes, '>', 50_000, 'a killed server leaves its queue');
is_deeply([ $sampler->found ], [], 'the text is not in what a killed server leaves');
eval { $listener->quit };
$node->start;
like($node->safe_psql('postgres', "LISTEN channel; SELECT pg_notify('channel', 'again'); SELECT 2"), qr/payload "again"/, 'after the start NOTIFY works');
$node->stop;
done_testing();
