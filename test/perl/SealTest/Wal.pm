# SealTest::Wal: sealed WAL on a node, and WAL segments as they lie on disk, read behind the server's back.
#
#   enable_wal($node);                     seals WAL from the next segment on
#   my @files = wal_segments($directory);  segments in it, .partial and RECOVERYXLOG too, in order
#   count_wal_marks(@files)                { sealed, plain, empty } pages; empty: no byte after the header
#   wal_generations(@files)                { mark => pages }
#   is_sealed_wal($node, 'claim')          one test: the segment being written is sealed, no page of it with contents is plain
#   open_segment($node, $kek, $from, $to)  $from opened by test/decrypt_wal.py with the node's registry; its counts, as a hash
#   wait_for(sub { ... }, 'what for')      its first true value
#   sums_are_equal($node, 'claim')         one test: pgbench's invariant
#   benchmark_digest($node)                one line that tells of every row of pgbench's tables
#
# A mark is a generation of the WAL key modulo 1024.
package SealTest::Wal;

use strict;
use warnings;

use Carp;
use Exporter 'import';
use File::Basename qw(dirname);
use IPC::Run;
use SealTest;
use Test::More;
use Time::HiRes qw(usleep time);

our @EXPORT = qw(enable_wal wal_segments count_wal_marks wal_generations is_sealed_wal open_segment sums_are_equal benchmark_digest);

sub enable_wal
{
	my ($node, $keyring) = @_;
	$node->safe_psql('postgres', 'SELECT seal.enable_wal_encryption(' . (defined $keyring ? sql_literal($keyring) : '') . ')');
	return;
}

sub wal_segments
{
	my ($directory) = @_;
	return sort grep { m{/(?:[0-9A-F]{24}(?:\.partial)?|RECOVERYXLOG)$} } glob "$directory/*";
}

# each_page(sub ($info, $page), @files)
sub each_page
{
	my ($visit, @files) = @_;
	for my $file (@files)
	{
		$visit->(unpack('x2 S', $_), $_) for pages_of($file);
	}
	return;
}

sub count_wal_marks
{
	my %count = (sealed => 0, plain => 0, empty => 0);
	each_page(sub {
			my ($info, $page) = @_;
			my $contents = substr($page, $info & 2 ? 40 : 24) =~ /[^\0]/;
			$count{ !$contents ? 'empty' : $info & 0x8000 ? 'sealed' : 'plain' }++;
		}, @_);
	return \%count;
}

sub wal_generations
{
	my %pages;
	each_page(sub { my ($info) = @_; $pages{ $info >> 4 & 1023 }++ if $info & 0x8000 }, @_);
	return \%pages;
}

# What follows the end of WAL in a recycled segment is of an earlier segment: only pages of this one count.
sub is_sealed_wal
{
	my ($node, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($segment, $size) = split /\|/, $node->safe_psql('postgres',
		q{SELECT pg_walfile_name(pg_logical_emit_message(false, 'is', 'sealed')), setting FROM pg_settings WHERE name = 'wal_segment_size'});
	my ($high, $low) = map { hex } $segment =~ /^.{8}(.{8})(.{8})$/;
	my $address = $high * 2**32 + $low * $size;
	my ($sealed, $plain) = (0, 0);
	wait_for(sub {
			($sealed, $plain) = (0, 0);
			each_page(sub {
					my ($info, $page) = @_;
					my $at = unpack 'x8 Q', $page;
					return if $at < $address || $at >= $address + $size || substr($page, $info & 2 ? 40 : 24) !~ /[^\0]/;
					$info & 0x8000 ? $sealed++ : $plain++;
				}, $node->data_dir . "/pg_wal/$segment");
			return $sealed + $plain;
		}, 'WAL is written');
	return is($sealed > 0 ? $plain : 'no sealed page', 0, $name);
}

sub open_segment
{
	my ($node, $kek, $from, $to) = @_;
	my ($text, $error) = ('', '');
	IPC::Run::run([ '/usr/bin/python3', dirname(__FILE__) . '/../../decrypt_wal.py', $node->data_dir, unpack('H*', $kek), $from, $to ], '<', \undef, '>', \$text, '2>', \$error)
	  or croak "$from: $error";
	my %count = reverse $text =~ /(\d+) (\w+)/g;
	return \%count;
}

sub wait_for
{
	my ($condition, $what, %params) = @_;
	my $until = time + ($params{patience} || 120);
	while (time < $until)
	{
		my $value = $condition->();
		return $value if $value;
		usleep(($params{every_ms} || 50) * 1000);
	}
	croak "waited in vain for: $what";
}

sub sums_are_equal
{
	my ($node, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($status, $out, $err) = $node->psql('postgres', q{
		SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT sum(bbalance) FROM pgbench_branches),
			(SELECT coalesce(sum(delta), 0) FROM pgbench_history)});
	my ($first, @others) = $status == 0 ? split /\|/, $out : ($err, '');
	return is_deeply(\@others, [ ($first) x 3 ], $name);
}

sub benchmark_digest
{
	my ($node) = @_;
	return $node->safe_psql('postgres', q{
		SELECT (SELECT md5(string_agg(aid || ':' || abalance, ',' ORDER BY aid)) FROM pgbench_accounts), (SELECT md5(string_agg(tid || ':' || tbalance, ',' ORDER BY tid)) FROM pgbench_tellers),
			(SELECT count(*) || ':' || coalesce(sum(delta), 0) FROM pgbench_history)});
}

1;
