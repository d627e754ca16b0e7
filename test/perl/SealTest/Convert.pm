# SealTest::Convert: sealing and unsealing what exists, and what lies on disk afterwards, judged from the files alone.
#
#   my $id = convert($node, 'encrypt', 'store');             waits; dies unless it ends done
#   my $id = begin_convert($node, 'decrypt', 'pg_default');  returns at once
#   my $mover = start_moving($node, 'store', 'pg_default');  back and forth beside the test, for as long as the server lives
#   stop_moving($mover)                                      what went wrong with it: lines; the loss of the server does not count
#   operation($node, $id)                                    a row of seal.operations, as a hash
#   wait_for_state($node, $id, 'done')                       dies when it ends otherwise
#   set_rate($node, 2)                                       pg_seal.rotation_rate, MB/s, while it runs
#   tablespace_is($node, 'store', 'sealed', 'claim', ...)    one test: every page of every fork of every file is sealed or zero
#
# Tablespaces other than pg_default and pg_global are those of make_tablespace(). Nothing here asks pg_seal what is sealed.
package SealTest::Convert;

use strict;
use warnings;

use Carp;
use Exporter 'import';
use IPC::Run;
use SealTest;
use Test::More;
use Time::HiRes qw(usleep time);

our @EXPORT = qw(convert begin_convert operation wait_for_state wait_until set_rate start_moving stop_moving tablespace_files tablespace_marks tablespace_is
  tablespace_holds relation_paths);

use constant PATIENCE => 240;    # seconds; far more than any step needs

sub call
{
	my ($what, $tablespace, %params) = @_;
	my $keyring = $what eq 'encrypt' ? ", keyring => '" . ($params{keyring} || 'default') . "'" : '';
	return "seal.${what}_tablespace('$tablespace'$keyring, wait => " . ($params{wait} ? 'true' : 'false') . ')';
}

sub convert
{
	my ($node, $what, $tablespace, %params) = @_;
	my $patience = PATIENCE;
	return $node->safe_psql($params{database} || 'postgres',
		"SET statement_timeout = '${patience}s'; SELECT " . call($what, $tablespace, %params, wait => 1));
}

sub begin_convert
{
	my ($node, $what, $tablespace, %params) = @_;
	return $node->safe_psql($params{database} || 'postgres', 'SELECT ' . call($what, $tablespace, %params, wait => 0));
}

sub operation
{
	my ($node, $id, %params) = @_;
	my @names = qw(id kind target state pages_done pages_total detail);
	my $row = $node->safe_psql($params{database} || 'postgres', 'SELECT ' . join(', ', @names) . " FROM seal.operations WHERE id = $id");
	my %row;
	@row{@names} = split /\|/, $row, scalar @names;
	return \%row;
}

# wait_until(sub { ... }, 'what for'): its first true value.
sub wait_until
{
	my ($condition, $what, %params) = @_;
	my $until = time + ($params{patience} || PATIENCE);
	while (time < $until)
	{
		my $value = $condition->();
		return $value if $value;
		usleep(($params{every_ms} || 50) * 1000);
	}
	croak "waited in vain for: $what";
}

sub wait_for_state
{
	my ($node, $id, $state, %params) = @_;
	return wait_until(sub {
			my $operation = operation($node, $id, %params);
			return $operation if $operation->{state} eq $state;
			croak "operation $id is $operation->{state} instead of $state: $operation->{detail}" if $operation->{state} =~ /^(done|failed|cancelled)$/;
			return;
		}, "operation $id $state");
}

sub set_rate
{
	my ($node, $mb) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET pg_seal.rotation_rate = $mb");
	$node->reload;
	return;
}

# Back and forth, each time the other way than the policy says; what stands from before a crash goes on by itself and is waited for.
sub start_moving
{
	my ($node, @tablespaces) = @_;
	my $script = $node->basedir . '/mover.sh';
	open my $file, '>', $script or die "$script: $!";
	print $file <<'SCRIPT';
sql() { psql -XAtq -d "$SEAL_CONNECT" -c "$1"; }
until [ -e "$SEAL_ENOUGH" ]; do
	for tablespace; do
		until left=$(sql "SELECT count(*) FROM seal.operations WHERE state IN ('pending', 'running')") && [ "$left" = 0 ]; do
			[ -n "$left" ] || exit
			sleep 0.1
		done
		case $(sql "SELECT sealed FROM seal.tablespaces WHERE tablespace = '$tablespace'") in
		t) sql "SELECT seal.decrypt_tablespace('$tablespace')" ;;
		f) sql "SELECT seal.encrypt_tablespace('$tablespace')" ;;
		*) exit ;;
		esac
	done
done
SCRIPT
	close $file or die "$script: $!";
	my $said = '';
	local $ENV{SEAL_CONNECT} = $node->connstr('postgres');
	local $ENV{SEAL_ENOUGH} = $node->basedir . '/mover.enough';
	unlink $ENV{SEAL_ENOUGH};
	return { node => $node, said => \$said, enough => $ENV{SEAL_ENOUGH},
		run => IPC::Run::start([ 'bash', $script, @tablespaces ], '<', \undef, '>', \$said, '2>&1') };
}

# Ends after the conversions in hand, or with the server.
sub stop_moving
{
	my ($mover) = @_;
	open my $file, '>', $mover->{enough} or die "$mover->{enough}: $!";
	close $file;
	eval { $mover->{run}->finish };
	return grep { /ERROR|FATAL/ && !/terminat|starting up|shutting down|recovery mode|not accepting|connection/ } split /\n/, ${ $mover->{said} };
}

# --- what lies on disk ---

# The relation files of a tablespace, all databases, forks and segments; temporary relations and key files are not among them.
sub tablespace_files
{
	my ($node, $tablespace) = @_;
	my $data = $node->data_dir;
	my @directories = $tablespace eq 'pg_global' ? ("$data/global") : $tablespace eq 'pg_default' ? glob("$data/base/*")
	  : glob($node->basedir . "/ts_$tablespace/PG_*/*");
	my @found = sort grep { m{/\d+(_(fsm|vm|init))?(\.\d+)?\z} && -f $_ } map { glob("$_/*") } @directories;
	return @found;
}

# { sealed, plain, zero: pages; at => { plain => ['file block', ...], sealed => [...] } } of these files, or of a tablespace.
sub tablespace_marks
{
	my ($node, $tablespace, @files) = @_;
	my %found = (sealed => 0, plain => 0, zero => 0, at => { sealed => [], plain => [], zero => [] });
	for my $file (@files ? @files : tablespace_files($node, $tablespace))
	{
		my $block = 0;
		for my $page (pages_of($file))
		{
			my $mark = page_mark($page);
			my $kind = !$mark ? 'zero' : $mark->{sealed} ? 'sealed' : 'plain';
			$found{$kind}++;
			push @{ $found{at}{$kind} }, "$file $block";
			$block++;
		}
	}
	return \%found;
}

# Every file that a relation of some database claims, main forks, absolute: what a crash left of uncommitted relations is not among them.
# Files of databases that nobody may connect to are claimed as a whole.
sub relation_paths
{
	my ($node) = @_;
	my $data = $node->data_dir;
	my %paths;
	for my $row (split /\n/, $node->safe_psql('postgres', 'SELECT oid, datname, datallowconn FROM pg_database'))
	{
		my ($oid, $database, $open) = split /\|/, $row;
		if ($open eq 't')
		{
			my $found = $node->safe_psql($database, q{SELECT pg_relation_filepath(oid) FROM pg_class WHERE pg_relation_filepath(oid) IS NOT NULL});
			$paths{"$data/$_"} = 1 for split /\n/, $found;
		}
		else { $paths{$_} = 1 for map { s/(_(fsm|vm|init))?(\.\d+)?\z//r } glob("$data/base/$oid/[0-9]*"), glob("$data/pg_tblspc/*/PG_*/$oid/[0-9]*") }
	}
	return \%paths;
}

# tablespace_is($node, 'store', 'sealed'|'plain', $name): a test. checkpoint => 1 first writes what is in memory; claimed => 1 leaves out files
# that no relation claims, and counts them.
sub tablespace_is
{
	my ($node, $tablespace, $kind, $name, %params) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql('postgres', 'CHECKPOINT') if $params{checkpoint};
	my @files = tablespace_files($node, $tablespace);
	if ($params{claimed})
	{
		my $claimed = relation_paths($node);
		my %directory = map { $_ => 1 } map { m{^(.*)/} } keys %$claimed;
		my %real;
		for my $path (keys %$claimed)
		{
			my ($directory, $file) = $path =~ m{^(.*)/([^/]+)\z};
			$directory =~ s{^(.*/pg_tblspc/\d+)}{readlink($1) || $1}e;
			$real{"$directory/$file"} = 1;
		}
		my @orphans = grep { my $main = s/(_(fsm|vm|init))?(\.\d+)?\z//r; !$real{$main} } @files;
		my %orphan = map { $_ => 1 } @orphans;
		@files = grep { !$orphan{$_} } @files;
		note scalar(@orphans), " files of $tablespace belong to no relation" if @orphans;
	}
	my $marks = @files ? tablespace_marks($node, $tablespace, @files) : { sealed => 0, plain => 0 };
	my $wrong = $kind eq 'sealed' ? 'plain' : 'sealed';
	my $good = $marks->{$kind} > 0 && $marks->{$wrong} == 0;
	ok($good, $name);
	note "$tablespace: $marks->{sealed} sealed, $marks->{plain} plain, $marks->{zero} zero pages in " . scalar(@files) . ' files' if $good;
	if (!$good)
	{
		my @at = @{ $marks->{at}{$wrong} };
		my @shown = @at > 20 ? @at[ 0 .. 19 ] : @at;
		diag "$tablespace: $marks->{sealed} sealed, $marks->{plain} plain\n", map { "   $wrong: $_\n" } @shown;
	}
	return $good;
}

# The files of a tablespace (any file) that hold one of these texts.
sub tablespace_holds
{
	my ($node, $tablespace, @texts) = @_;
	my $data = $node->data_dir;
	my @files = $tablespace eq 'pg_global' ? glob("$data/global/*") : $tablespace eq 'pg_default' ? glob("$data/base/*/*")
	  : glob($node->basedir . "/ts_$tablespace/PG_*/*/*");
	my $any = join '|', map { quotemeta } @texts;
	my @found = sort grep { -f $_ && SealTest::slurp_raw($_) =~ /$any/ } @files;
	return @found;
}

1;
