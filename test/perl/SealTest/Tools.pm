# SealTest::Tools: running the stock tools, and what WAL segments they leave on disk.
#
#   wal_pages($file)           ({ sealed, generation, empty, address, timeline }, ...) for each page with a header
#   segments_in($directory)    paths of WAL segments there (whole and partial), ascending
#   segment_generations($dir)      ascending generations of the pages in a directory's segments; 0 for pages in clear with contents
#   run_tool(@command)         (status, standard output, standard error)
#   files_holding($text, $dir) files below a directory that hold these bytes
package SealTest::Tools;

use strict;
use warnings;

use Exporter 'import';
use File::Find;
use IPC::Run ();

our @EXPORT = qw(wal_pages segments_in segment_generations run_tool files_holding slurp_raw canonical_lsn);

sub slurp_raw { return SealTest::slurp_raw(@_) }

sub wal_pages
{
	my ($file) = @_;
	my @pages;
	for my $page (SealTest::pages_of($file))
	{
		my ($magic, $info, $timeline, $address) = unpack 'S S L Q', $page;
		next if $magic == 0;
		my $header = $info & 2 ? 40 : 24;
		push @pages, { sealed => $info & 0x8000 ? 1 : 0, generation => ($info >> 4) & 1023, timeline => $timeline, address => $address,
			empty => substr($page, $header) !~ /[^\0]/ ? 1 : 0 };
	}
	return @pages;
}

sub segments_in
{
	my ($directory) = @_;
	return sort grep { m{/[0-9A-F]{24}(\.partial)?\z} } glob "$directory/*";
}

sub segment_generations
{
	my ($directory) = @_;
	my %seen;
	for my $page (map { wal_pages($_) } segments_in($directory))
	{
		$seen{ $page->{sealed} ? $page->{generation} : 0 } = 1 if $page->{sealed} || !$page->{empty};
	}
	return sort { $a <=> $b } keys %seen;
}

sub run_tool
{
	my @command = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run(\@command, '<', \undef, '>', \$out, '2>', \$err);
	return ($? >> 8 || $? & 127, $out, $err);
}

sub files_holding
{
	my ($text, $directory) = @_;
	my @found;
	find({ no_chdir => 1, wanted => sub { push @found, $_ if -f $_ && index(slurp_raw($_), $text) >= 0 } }, $directory);
	return sort @found;
}

# "0/016B3748" and "0/16B3748" are the same.
sub canonical_lsn
{
	my ($high, $low) = split m{/}, $_[0];
	return sprintf '%X/%08X', hex $high, hex $low;
}

1;
