# SealTest: a PostgreSQL::Test::Cluster node that knows pg_seal, and a SoftHSM token of its own for each test.
#
#   use SealTest;
#   my $token = SealTest::Token->new;
#   my $node  = SealTest->new('primary');
#   $node->init_seal(checksums => 1, allows_streaming => 1);
#   $node->start;
#   $node->set_up_keys($token);                     # extension, provider 'hsm', keyring 'default'
#   $node->make_tablespace('secure', sealed => 1);
#   ...
#   is_deeply([ $node->files_with('a secret') ], [], 'the secret is in no file');
#
# A node is an ordinary Cluster node in every other way. Whatever is read from disk is read behind the server's back, after
# a CHECKPOINT of the caller's or of the helper that says so.
package SealTest;

use strict;
use warnings;
use parent qw(PostgreSQL::Test::Cluster);

use Carp;
use Exporter 'import';
use File::Basename qw(dirname basename);
use File::Find;
use File::Path qw(make_path remove_tree);
use POSIX qw(WNOHANG);
use PostgreSQL::Test::Utils qw(slurp_file system_or_bail);    # no more: its command_ok and others are methods of a node
use SealTest::Token;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(
  pages_of
  page_mark
  count_marks
  sql_literal
);

# Cluster bails out when a server does not start, which would keep every other script from running.
{
	no warnings 'redefine';
	*PostgreSQL::Test::Cluster::BAIL_OUT = sub { die "$_[0]\n" };
}

# Orphaned server processes become children of the test (prctl PR_SET_CHILD_SUBREAPER), which collects those it kills: a killed
# postmaster that nobody has waited for still counts as running to the next one, and not every process 1 is quick about it.
require 'syscall.ph';
syscall(&SYS_prctl, 36, 1, 0, 0, 0) == 0 or die "prctl: $!";

# --- life of a node ---

# init_seal(checksums => 0|1, allows_streaming => ..., has_archiving => ..., load => 0|1, conf => 'more lines', extra => [...])
# The library is preloaded unless load => 0. Autovacuum is off: what lies on disk is what the test wrote.
sub init_seal
{
	my ($self, %params) = @_;
	my @extra = @{ $params{extra} || [] };
	push @extra, '--data-checksums' if $params{checksums};
	my $load = exists $params{load} ? $params{load} : 1;
	$self->init(%params, extra => \@extra);
	$self->append_conf('postgresql.conf', join("\n",
			'shared_buffers = 16MB',
			'max_connections = 30',
			'autovacuum = off',
			'log_statement = none',
			$load ? "shared_preload_libraries = 'pg_seal'" : '',
			$params{conf} || '') . "\n");
	return;
}

# The extension in a database, a provider 'hsm' over the token and a keyring over the provider.
sub set_up_keys
{
	my ($self, $token, %params) = @_;
	my $database = $params{database} || 'postgres';
	my $keyring = sql_literal($params{keyring} || 'default');
	my $protection = sql_literal($params{protection} || 'standard');
	my $provider = sql_literal($params{provider} || 'hsm');
	my $config = sql_literal($token->config);
	$self->safe_psql($database, qq{
		CREATE EXTENSION IF NOT EXISTS pg_seal;
		SELECT seal.add_provider($provider, 'pkcs11', $config);
		SELECT seal.create_keyring($keyring, $provider, protection => $protection);
	});
	return;
}

# A tablespace in a directory of its own beside the data directory; sealed => 1 or the name of a keyring.
sub make_tablespace
{
	my ($self, $name, %params) = @_;
	my $database = $params{database} || 'postgres';
	my $directory = $self->basedir . "/ts_$name";
	make_path($directory);
	$self->safe_psql($database, "CREATE TABLESPACE $name LOCATION " . sql_literal($directory));
	if ($params{sealed})
	{
		my $keyring = sql_literal($params{sealed} eq '1' ? 'default' : $params{sealed});
		$self->safe_psql($database, "SELECT seal.encrypt_tablespace('$name', $keyring)");
	}
	return $directory;
}

# A data directory made by the stock pg_basebackup, tablespaces beside it, passed by pg_verifybackup (one test). standby => 1 makes it follow $primary; archive => 1
# lets it restore from the primary's archive. options: more words for pg_basebackup.
sub init_from_stock_backup
{
	my ($self, $primary, %params) = @_;
	my @command = ('pg_basebackup', '-D', $self->data_dir, '-h', $primary->host, '-p', $primary->port,
		'--checkpoint=fast', '--no-sync', @{ $params{options} || [] });
	for my $link (glob $primary->data_dir . '/pg_tblspc/*')
	{
		my $from = readlink($link) or next;
		my $to = $self->basedir . '/' . basename($from);
		push @command, '-T', "$from=$to";
	}
	mkdir $self->backup_dir;
	mkdir $self->archive_dir;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	system_or_bail(@command);
	PostgreSQL::Test::Utils::command_ok([ 'pg_verifybackup', $self->data_dir ], 'pg_verifybackup accepts the backup for ' . $self->name);
	$self->append_conf('postgresql.conf', 'port = ' . $self->port . "\nunix_socket_directories = '" . $self->host . "'\n");
	$self->enable_streaming($primary) if $params{standby};
	$self->enable_restoring($primary, $params{standby} ? 1 : 0) if $params{archive};
	return;
}

# Every process of the server killed with signal 9 at once, as when the machine stops.
sub crash
{
	my ($self) = @_;
	my $postmaster = $self->{_pid} or croak 'the server does not run';
	my @children = children_of($postmaster);
	kill 'STOP', $postmaster;
	push @children, children_of($postmaster);
	kill 'STOP', @children;    # nobody notices that another is gone
	kill 'KILL', $postmaster, @children;
	await_end($_) for $postmaster, @children;
	$self->{_pid} = undef;
	return;
}

# The postmaster alone killed; its children notice by themselves and end.
sub kill9
{
	my ($self) = @_;
	my $postmaster = $self->{_pid};
	my @children = defined $postmaster ? children_of($postmaster) : ();
	$self->SUPER::kill9;
	await_end($_) for grep { defined } $postmaster, @children;
	return;
}

# Until a process is gone, collected by us or by its parent; a minute at most.
sub await_end
{
	my ($pid) = @_;
	for (1 .. 6000)
	{
		waitpid $pid, WNOHANG;
		return unless kill 0, $pid;
		usleep(10_000);
	}
	die "process $pid does not end\n";
}

sub children_of
{
	my ($parent) = @_;
	my @found;
	for my $stat (glob '/proc/[0-9]*/stat')
	{
		open my $file, '<', $stat or next;
		my $line = <$file>;
		push @found, $1 if defined $line && $line =~ /^(\d+) \(.*\) \S (\d+) / && $2 == $parent;
	}
	return @found, map { children_of($_) } @found;
}

# The key agents below this server's postmaster (there should be one).
sub agent_pids
{
	my ($self) = @_;
	return grep {
		my $command = slurp_raw("/proc/$_/cmdline") =~ tr/\0/ /r;
		$command =~ /^\S*pgseal agent/;
	} children_of($self->{_pid});
}

# A zombie is dead: it only waits for its parent to collect it.
sub is_alive
{
	my ($pid) = @_;
	open my $file, '<', "/proc/$pid/stat" or return 0;
	my $line = <$file>;
	return defined $line && $line !~ /\) Z /;
}

# The server must refuse to start, and say why. The node is stopped before and after.
sub start_fails_like
{
	my ($self, $pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $from = -s $self->logfile || 0;
	my $started = $self->start(fail_ok => 1);
	my $log = slurp_file($self->logfile, $from);
	$self->stop('immediate') if $started;
	return $started ? fail("$name (it started)") : like($log, $pattern, $name);
}

# A statement that must fail with a message like that.
sub fails_like
{
	my ($self, $database, $sql, $pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($status, $out, $err) = eval { $self->psql($database, $sql) };
	if ($@)
	{
		die $@ if $@ !~ /Broken pipe/;    # refused as it connected, psql went away before it was given the statement
		my @command = ('psql', '-XAtq', '-d', $self->connstr($database), '-c', $sql);
		$status = IPC::Run::run(\@command, '<', \undef, '>', \$out, '2>', \$err) ? 0 : 1;
	}
	return $status == 0 ? fail("$name (it succeeded)") : like($err, $pattern, $name);
}

# --- what lies on disk ---

# relation_files('postgres', 'public.t'): every file of the relation (segments, all forks), absolute; main fork first.
sub relation_files
{
	my ($self, $database, $relation) = @_;
	my $path = $self->safe_psql($database, 'SELECT pg_relation_filepath(' . sql_literal($relation) . '::regclass)');
	croak "$relation has no storage" if $path eq '';
	$path = $self->data_dir . "/$path";
	return sort { length $a <=> length $b || $a cmp $b } grep { m{^\Q$path\E(_fsm|_vm|_init)?(\.\d+)?\z} } glob "$path*";
}

# is_sealed_on_disk('postgres', 't'): after a checkpoint, 1 if every non-zero page of every fork is sealed and there is one, 0 if
# none is, else a text that counts them.
sub is_sealed_on_disk
{
	my ($self, $database, $relation) = @_;
	$self->safe_psql($database, 'CHECKPOINT');
	my $count = count_marks($self->relation_files($database, $relation));
	return 1 if $count->{sealed} && !$count->{plain};
	return 0 if !$count->{sealed};
	return "$count->{sealed} sealed, $count->{plain} plain";
}

# files_with('text', wal => 0|1): the files below the data directory and its tablespaces that hold these bytes, relative. The
# server's log is not searched. Checkpoints first if the server runs.
sub files_with
{
	my ($self, $text, %params) = @_;
	$self->safe_psql('postgres', 'CHECKPOINT') if defined $self->{_pid} && !$params{no_checkpoint};
	my $data = $self->data_dir;
	my @found;
	find({ follow_fast => 1, follow_skip => 2, no_chdir => 1, wanted => sub {
			return unless -f $_;
			return if !$params{wal} && m{^\Q$data\E/pg_wal/};
			push @found, substr($_, length($data) + 1) if index(slurp_raw($_), $text) >= 0;
		} }, $data);
	return sort @found;
}

sub slurp_raw
{
	my ($path) = @_;
	open my $file, '<:raw', $path or return '';    # may be gone by now
	local $/;
	my $bytes = <$file>;
	return defined $bytes ? $bytes : '';
}

# pages_of($file): its 8 KiB pages.
sub pages_of
{
	my ($path) = @_;
	return unpack('(a8192)*', slurp_raw($path));
}

# page_mark($page): undef for an all-zero page; else { sealed, cipher, generation, lsn_high, lsn_low, checksum, flags }.
sub page_mark
{
	my ($page) = @_;
	return undef if $page !~ /[^\0]/;
	my ($lsn_high, $lsn_low, $checksum, $flags) = unpack('L L S S', $page);
	return { sealed => ($flags & 0x8000) ? 1 : 0, cipher => ($flags >> 11) & 0x0F, generation => ($flags >> 3) & 0xFF,
		lsn_high => $lsn_high, lsn_low => $lsn_low, checksum => $checksum, flags => $flags };
}

# count_marks(@files): { sealed, plain, zero } over their pages.
sub count_marks
{
	my %count = (sealed => 0, plain => 0, zero => 0);
	for my $file (@_)
	{
		for my $page (pages_of($file))
		{
			my $mark = page_mark($page);
			$count{ !$mark ? 'zero' : $mark->{sealed} ? 'sealed' : 'plain' }++;
		}
	}
	return \%count;
}

sub sql_literal
{
	my ($text) = @_;
	$text =~ s/'/''/g;
	return "'$text'";
}

1;
