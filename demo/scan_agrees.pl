#!/usr/bin/perl
# Do pgseal scan and seal.relations say the same? Reads, as arguments, the scan's JSON and a file with lines
# "database-oid|tablespace-oid|relfilenode|state|sealed|plain|zero" of one database; prints "relations pages", or what differs.
use strict;
use warnings;
use JSON::PP;

my ($json, $rows) = map { open my $file, '<', $_ or die "$_: $!\n"; local $/; <$file> } @ARGV;
my %scan;
for my $relation (@{ decode_json($json)->{relations} })
{
	my %sum = (sealed => 0, plain => 0, zero => 0);
	for my $fork (values %{ $relation->{forks} }) { $sum{$_} += $fork->{$_} for keys %sum }
	$scan{"$relation->{database}|$relation->{tablespace}|$relation->{relfilenode}"} = "$relation->{state}|$sum{sealed}|$sum{plain}|$sum{zero}";
}
my ($relations, $pages, @wrong) = (0, 0);
for my $row (split /\n/, $rows)
{
	my ($place, $said) = $row =~ /^(\d+\|\d+\|\d+)\|(.*)$/ or die "not a row: $row\n";
	push @wrong, "$place: seal.relations says $said, the scan " . ($scan{$place} // 'nothing') unless ($scan{$place} // '') eq $said;
	my (undef, @counts) = split /\|/, $said;
	$relations++;
	$pages += $_ for @counts;
}
print @wrong ? join("\n", @wrong) . "\n" : "$relations relations, $pages pages\n";
exit(@wrong ? 1 : 0);
