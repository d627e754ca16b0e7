# SealTest::KeyFile: key files read from disk, as docs/formats.md describes them, without any code of the product.
#
#   key_files($node)             every key file below the data directory and its tablespaces, absolute
#   key_file_of($node, $db)      the one of a database
#   key_slots($path)             its used slots: { slot, tablespace, rel_node, version, state, keyring_id, dropped_lsn, at }
#   key_slot_of($node, $db, $relation)
#   set_page_checksum(\$page, $block)   gives a changed page the checksum that belongs to it
package SealTest::KeyFile;

use strict;
use warnings;

use Carp;
use Exporter 'import';
use SealTest;

our @EXPORT = qw(key_files key_file_of key_slots key_slot_of whole_pages set_page_checksum page_checksum spit_raw);

use constant { PAGE => 8192, SLOTS => 31, SLOT => 256 };

sub key_files
{
	my ($node) = @_;
	my $data = $node->data_dir;
	return sort grep { -f $_ } "$data/global/pg_seal_keys", glob("$data/base/*/pg_seal_keys"),
	  glob("$data/pg_tblspc/*/PG_15_*/*/pg_seal_keys");
}

sub key_file_of
{
	my ($node, $database) = @_;
	my $relative = $node->safe_psql($database, q{
		SELECT CASE WHEN spcname = 'pg_default' THEN 'base/' || d.oid
			ELSE 'pg_tblspc/' || t.oid || '/PG_15_*/' || d.oid END
		FROM pg_database d JOIN pg_tablespace t ON t.oid = dattablespace WHERE datname = current_database()});
	my ($path) = glob($node->data_dir . "/$relative/pg_seal_keys");
	return $path;
}

sub key_slots
{
	my ($path) = @_;
	my @found;
	my @pages = SealTest::pages_of($path);
	for my $number (0 .. $#pages)
	{
		for my $i (0 .. SLOTS - 1)
		{
			my $at = SLOT + $i * SLOT;
			my ($tablespace, $rel_node, $version, $switch_lsn, $created_at, $keyring_id, $keyring_version, $format, $state) =
			  unpack('L L Q Q L L L C C', substr($pages[$number], $at, SLOT));
			next if $state == 0;
			my ($dropped_at, $record_lsn, $dropped_lsn) = unpack('L Q Q', substr($pages[$number], $at + 236, 20));
			push @found, { slot => $number * SLOTS + $i, at => $number * PAGE + $at, tablespace => $tablespace, rel_node => $rel_node,
				version => $version, state => $state, keyring_id => $keyring_id, record_lsn => $record_lsn,
				dropped_lsn => $dropped_lsn };
		}
	}
	return @found;
}

sub key_slot_of
{
	my ($node, $database, $relation) = @_;
	my ($rel_node, $tablespace) = split /\|/, $node->safe_psql($database,
		'SELECT pg_relation_filenode(oid), reltablespace FROM pg_class WHERE oid = ' . sql_literal($relation) . '::regclass');
	my @found = grep { $_->{rel_node} == $rel_node && $_->{tablespace} == $tablespace } key_slots(key_file_of($node, $database));
	croak scalar(@found) . " slots of $relation" if @found != 1;
	return $found[0];
}

# Every key file is a whole number of pages, and no relation has two slots: returns the faults found.
sub whole_pages
{
	my ($node) = @_;
	my @faults;
	for my $file (key_files($node))
	{
		push @faults, "$file: " . (-s $file) . ' bytes' if (-s $file) % PAGE;
		my %seen;
		$seen{"$_->{tablespace}/$_->{rel_node}"}++ for key_slots($file);
		push @faults, map { "$file: $seen{$_} slots of $_" } grep { $seen{$_} > 1 } sort keys %seen;
	}
	return @faults;
}

# PostgreSQL's page checksum: 32 interleaved FNV-1a sums, folded, mixed with the block number.
my @SEED = (
	0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
	0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
	0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
	0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756);

sub page_checksum
{
	my ($page, $block) = @_;
	substr($page, 8, 2) = "\0\0";
	my @words = unpack('L*', $page);
	my @sums = @SEED;
	my $step = sub { my ($sum, $value) = @_; my $x = $sum ^ $value; return (($x * 16777619) & 0xFFFFFFFF) ^ ($x >> 17) };
	for my $row (0 .. PAGE / 128 - 1)
	{
		$sums[$_] = $step->($sums[$_], $words[$row * 32 + $_]) for 0 .. 31;
	}
	for (1 .. 2) { $sums[$_] = $step->($sums[$_], 0) for 0 .. 31 }
	my $result = 0;
	$result ^= $_ for @sums;
	return (($result ^ $block) % 65535) + 1;
}

sub set_page_checksum
{
	my ($page, $block) = @_;
	substr($$page, 8, 2) = pack('S', page_checksum($$page, $block));
	return;
}

sub spit_raw
{
	my ($path, $bytes) = @_;
	open my $file, '>:raw', $path or croak "$path: $!";
	print $file $bytes;
	close $file or croak "$path: $!";
	return;
}

1;
