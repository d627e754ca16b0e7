#!/usr/bin/perl
# Turns `apt-cache dumpavail` (paragraphs of "Field: value") into CSV: package, version, section, maintainer, address,
# size_kb, homepage, summary. One line per package and version.
use strict;
use warnings;

binmode STDIN, ':raw';
binmode STDOUT, ':raw';
$/ = '';    # a paragraph at a time
my %seen;
while (my $paragraph = <STDIN>)
{
	my %field = $paragraph =~ /^([A-Za-z-]+):[ \t]*(.*)$/mg;
	next unless defined $field{Package} && !$seen{"$field{Package} " . ($field{Version} // '')}++;
	my ($name, $address) = ($field{Maintainer} // '') =~ /^\s*(.*?)\s*<([^<>]*)>\s*$/;
	my @row = ($field{Package}, $field{Version}, $field{Section}, $name // $field{Maintainer}, $address,
		$field{'Installed-Size'}, $field{Homepage}, $field{'Description-en'} // $field{Description});
	print join(',', map { csv($_) } @row), "\n";
}

sub csv
{
	my ($text) = @_;
	return '' unless defined $text && $text ne '';
	$text =~ s/[^\x20-\x7e\x80-\xff]//g;
	$text =~ s/"/""/g;
	return qq("$text");
}
