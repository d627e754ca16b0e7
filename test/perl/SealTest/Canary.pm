# SealTest::Canary: texts planted by a load, and the search for them in everything that lies on disk.
#
#   canary('heap')                       a text of its own for each kind of load: kanarie_heap_9f3c
#   my $found = SealTest::Canary::Found->new;
#   $found->search('primary', $directory)             every file below it, links followed
#   my $sampler = SealTest::Canary::Sampler->new(primary => $data_dir, ...);    searches again and again beside the test:
#   $sampler->stop($found)                            places whose files live briefly, and files deleted but still open
#   $found->places('heap')               where it was found: 'primary data', 'primary wal', 'archive', 'primary temp' ...
#   $found->paths('heap')                in which files, as "primary base/5/16384"
#   $found->all                          one line for each kind and place
#   $found->bytes('primary temp')        how much was searched there
#
# A place is the name given to a directory and what kind of file it is, told by the path below it.
package SealTest::Canary;

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(canary);

sub canary { my ($kind) = @_; return "kanarie_${kind}_9f3c" }

# What PostgreSQL keeps in a file of this path below a data directory.
sub class_of
{
	my ($path) = @_;
	return 'changes' if $path =~ m{/pgsql_tmp/.*\.(?:changes|subxacts)};
	return 'fileset' if $path =~ m{/pgsql_tmp/.*\.fileset/};
	return 'tablespace temp' if $path =~ m{^pg_tblspc/.*/pgsql_tmp/};
	return 'temp' if $path =~ m{/pgsql_tmp/};
	return 'spill' if $path =~ m{^pg_replslot/.*\.spill$};
	return 'temp table' if $path =~ m{/t\d+_\d+(?:_\w+)?(?:\.\d+)?$};
	return 'data' if $path =~ m{^base/};
	return 'tablespace' if $path =~ m{^pg_tblspc/};
	return $1 if $path =~ m{^(?:pg_)?(wal|notify|twophase|stat_tmp|stat|global|replslot|logical|dynshmem|seal)/};
	return $path =~ m{/} ? 'elsewhere' : 'top';
}

package SealTest::Canary::Found;

use strict;
use warnings;

use File::Find;

my $pattern = qr/kanarie_([a-z]+)_9f3c/;
# Constants in stored expressions (pg_node_tree) are numbers, byte by byte.
my ($begin, $end) = map { join ' ', map { ord } split // } 'kanarie_', '_9f3c';
my $numbers = qr/$begin ((?:\d+ )+?)$end/;

sub new { my ($class) = @_; return bless { hits => {}, bytes => {} }, $class }

sub note_bytes
{
	my ($self, $name, $path, $class, $bytes) = @_;
	my $place = $class eq '' ? $name : "$name $class";
	$self->{bytes}{$place} += length $bytes;
	my %kinds;
	$kinds{$1} = 1 while $bytes =~ /$pattern/g;
	$kinds{ join '', map { chr } split / /, $1 } = 1 while $bytes =~ /$numbers/g;
	$self->{hits}{$_}{$place}{"$name $path"} = 1 for keys %kinds;
	return;
}

# flat => 1: a directory of segments or the like, which is one place.
sub search
{
	my ($self, $name, $directory, %params) = @_;
	find({ follow_fast => 1, follow_skip => 2, no_chdir => 1, wanted => sub {
			return unless -f $_;
			my $path = substr $_, length($directory) + 1;
			$self->note_bytes($name, $path, $params{flat} ? '' : SealTest::Canary::class_of($path), SealTest::slurp_raw($_));
		} }, $directory);
	return;
}

sub places { my ($self, $kind) = @_; return sort keys %{ $self->{hits}{$kind} || {} } }
sub paths { my ($self, $kind) = @_; return sort map { keys %$_ } values %{ $self->{hits}{$kind} || {} } }
sub bytes { my ($self, $place) = @_; return $self->{bytes}{$place} || 0 }

sub all
{
	my ($self) = @_;
	my @lines;
	for my $kind (sort keys %{ $self->{hits} })
	{
		push @lines, map { my $place = $_; "$kind in $place: " . join ', ', (sort keys %{ $self->{hits}{$kind}{$place} })[ 0 .. 0 ] } $self->places($kind);
	}
	return @lines;
}

sub merge
{
	my ($self, $other) = @_;
	$self->{bytes}{$_} += $other->{bytes}{$_} for keys %{ $other->{bytes} };
	for my $kind (keys %{ $other->{hits} })
	{
		for my $place (keys %{ $other->{hits}{$kind} })
		{
			$self->{hits}{$kind}{$place}{$_} = 1 for keys %{ $other->{hits}{$kind}{$place} };
		}
	}
	return;
}

package SealTest::Canary::Sampler;

use strict;
use warnings;

use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Utils;
use Time::HiRes qw(usleep time);

# new(name => data directory, ...): a process of its own, until stop().
sub new
{
	my ($class, %roots) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir('sampler') . '/found';
	my $test = $$;
	my $pid = fork;
	die "fork: $!" unless defined $pid;
	if ($pid == 0)
	{
		my $enough = 0;
		local $SIG{TERM} = sub { $enough = 1 };
		my $found = SealTest::Canary::Found->new;
		my $failure = eval {
			until ($enough)
			{
				sample($found, $_, $roots{$_}) for keys %roots;
				usleep(1000);
				$enough = 1 unless kill 0, $test;
			}
			open my $out, '>', $file or die "$file: $!";
			print $out encode_json({%$found});
			close $out or die "$file: $!";
			1;
		} ? 0 : 1;
		POSIX::_exit($failure); # the test's END blocks are not ours
	}
	return bless { pid => $pid, file => $file }, $class;
}

my %seen; # state of a file when it was read

sub take
{
	my ($found, $name, $file, $below) = @_;
	my @state = Time::HiRes::stat($file) or return;
	my $state = "@state[ 1, 7, 9 ]";
	return if ($seen{$file} || '') eq $state;
	$seen{$file} = $state;
	$found->note_bytes($name, $below, SealTest::Canary::class_of($below), SealTest::slurp_raw($file)) if -f $file;
	return;
}

# Only what passes: a file that stays is found at the end.
sub sample
{
	my ($found, $name, $root) = @_;
	my @directories = (glob("$root/base/pgsql_tmp"), glob("$root/pg_tblspc/*/*/pgsql_tmp"), glob("$root/pg_replslot/*"), "$root/pg_notify", "$root/pg_stat_tmp");
	for my $directory (@directories)
	{
		for my $path (glob "$directory/*")
		{
			for my $file (-d $path ? glob "$path/*" : $path)
			{
				take($found, $name, $file, substr $file, length($root) + 1);
			}
		}
	}
	my $postmaster = (split /\n/, SealTest::slurp_raw("$root/postmaster.pid"))[0] or return;
	for my $pid (SealTest::children_of($postmaster))
	{
		for my $descriptor (glob "/proc/$pid/fd/*")
		{
			my $path = readlink $descriptor or next;
			next unless $path =~ s{^\Q$root\E/(.*) \(deleted\)$}{$1};
			take($found, $name, $descriptor, "$path (deleted)");
		}
	}
	return;
}

sub stop
{
	my ($self, $found) = @_;
	kill 'TERM', $self->{pid};
	waitpid $self->{pid}, 0;
	die 'the sampler failed' if $?;
	$found->merge(decode_json(SealTest::slurp_raw($self->{file})));
	return;
}

1;
