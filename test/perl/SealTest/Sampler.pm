# SealTest::Sampler: looks at files WHILE they exist: while statements run, files that match a pattern are read again and again, and searched for a text.
#
#   my $sampler = SealTest::Sampler->new($node, text => 'a canary', files => ['base/pgsql_tmp']);   files or folders, relative to the data directory
#   my $output  = $sampler->run('postgres', 'SELECT ...');     the statement's output; the files are sampled until it ends
#   $sampler->look;                                            once, now
#   $sampler->bytes, $sampler->found                           what was read in all; the files that held the text
#
# A file may grow or go away meanwhile. `text` must not be in a statement that the files themselves hold.
package SealTest::Sampler;

use strict;
use warnings;

use File::Find;
use POSIX qw(WNOHANG);
use SealTest;
use Time::HiRes qw(usleep);

sub new
{
	my ($class, $node, %params) = @_;
	return bless { node => $node, text => $params{text}, files => $params{files}, found => {}, bytes => 0, largest => 0 }, $class;
}

# Every temporary folder: of the default tablespace and of the others.
sub temp_folders { return ('base/pgsql_tmp', 'pg_tblspc/*/PG_*/pgsql_tmp') }

sub bytes { return $_[0]{bytes} }
sub found { return sort keys %{ $_[0]{found} } }
sub forget { my ($self) = @_; @$self{qw(found bytes largest)} = ({}, 0, 0); return $self }

sub look
{
	my ($self) = @_;
	my $data = $self->{node}->data_dir;
	my @places = grep { -e } map { glob "$data/$_" } @{ $self->{files} };
	return if !@places;
	find({ no_chdir => 1, follow_fast => 1, follow_skip => 2, dangling_symlinks => 0, wanted => sub {
			my $path = $_;
			return unless -f $path;
			my $bytes = SealTest::slurp_raw($path);
			$self->{bytes} += length $bytes;
			$self->{found}{ substr($path, length($data) + 1) } = 1 if index($bytes, $self->{text}) >= 0;
		} }, @places);
	return;
}

# Begins statements in a session of their own: its process id, to be waited for. What it prints is in output().
sub start
{
	my ($self, $database, $sql) = @_;
	my $base = $self->{base} = $self->{node}->basedir . '/sampled';
	open my $script, '>', "$base.sql" or die "$base.sql: $!";
	print $script $sql;
	close $script;
	my $pid = fork;
	die "fork: $!" if !defined $pid;
	return $pid if $pid != 0;
	open STDOUT, '>', "$base.out" or die;
	open STDERR, '>', "$base.err" or die;
	exec('psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $self->{node}->connstr($database), '-f', "$base.sql") or POSIX::_exit(127);
}

sub output
{
	my ($self) = @_;
	my $output = SealTest::slurp_raw("$self->{base}.out");
	chomp $output;
	return $output;
}

# Runs statements and samples until they end; returns what they print. Dies if they fail.
sub run
{
	my ($self, $database, $sql) = @_;
	my $pid = $self->start($database, $sql);
	while (waitpid($pid, WNOHANG) == 0)
	{
		$self->look;
		usleep(20_000);
	}
	die "$sql\n" . SealTest::slurp_raw("$self->{base}.err") if $? != 0;
	return $self->output;
}

1;
