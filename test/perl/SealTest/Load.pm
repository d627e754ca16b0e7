# SealTest::Load: pgbench scripts that run beside a test until they are stopped, or until the server dies.
#
#   my $load = SealTest::Load->new($node);
#   $load->run($script_text, clients => 2, database => 'postgres', options => [...]);
#   $load->run(undef, clients => 3);                            pgbench's own transactions
#   $load->stop_without_errors('claim');                        one test: no client met an error
#   $load->died_with_server('claim');                           after a crash: nothing but the loss of the connection
#   ddl_storm('store')                                          a script of its own tables: created, rewritten, truncated, moved, dropped
#   $load->run(..., settings => '-c statement_timeout=60s')     bounds every statement of its sessions
#
# Scripts use tables named after :client_id, so that clients of one job do not meet; another job needs other names (prefix).
package SealTest::Load;

use strict;
use warnings;

use IPC::Run;
use Exporter 'import';
use SealTest;
use Test::More;

our @EXPORT = qw(ddl_storm);

my $scripts = 0;

sub ddl_storm
{
	my ($tablespace, %params) = @_;
	my $t = ($params{prefix} || 'storm') . '_:client_id';
	return qq{
SET default_tablespace = $tablespace;
DROP MATERIALIZED VIEW IF EXISTS view_$t;
DROP TABLE IF EXISTS $t, unlogged_$t;
CREATE TABLE $t (id int PRIMARY KEY, pad text, long text);
INSERT INTO $t SELECT g, md5(g::text), CASE WHEN g % 50 = 0 THEN repeat(md5(g::text), 200) END FROM generate_series(1, 600) g;
CREATE INDEX pad_$t ON $t (pad);
DELETE FROM $t WHERE id % 3 = 0;
VACUUM $t;
VACUUM FULL $t;
ALTER TABLE $t SET TABLESPACE pg_default;
ALTER TABLE $t SET TABLESPACE $tablespace;
REINDEX TABLE $t;
CLUSTER $t USING pad_$t;
BEGIN;
TRUNCATE $t;
INSERT INTO $t SELECT g, md5(g::text) FROM generate_series(1, 300) g;
COMMIT;
BEGIN;
TRUNCATE $t;
CREATE TABLE never_$t (x int);
INSERT INTO never_$t VALUES (1);
ROLLBACK;
CREATE MATERIALIZED VIEW view_$t AS SELECT id, pad FROM $t;
REFRESH MATERIALIZED VIEW view_$t;
CREATE UNLOGGED TABLE unlogged_$t (x int PRIMARY KEY);
INSERT INTO unlogged_$t SELECT generate_series(1, 500);
CREATE TEMP TABLE passing AS SELECT g FROM generate_series(1, 300) g;
DROP TABLE passing;
DELETE FROM $t WHERE ctid >= '(1,0)';
VACUUM $t;
};
}

sub new { my ($class, $node) = @_; return bless { node => $node, jobs => [] }, $class }

sub run
{
	my ($self, $script, %params) = @_;
	my $node = $self->{node};
	my @command = ('pgbench', '-n', '-h', $node->host, '-p', $node->port, '-T', 3600, '-P', 1, '-c', $params{clients} || 1, @{ $params{options} || [] });
	if (defined $script)
	{
		my $path = $node->basedir . '/load_' . $scripts++ . '.sql';
		open my $file, '>', $path or die "$path: $!";
		print $file $script;
		close $file or die "$path: $!";
		push @command, '-f', $path;
	}
	my $text = '';
	local $ENV{PGOPTIONS} = $params{settings} if $params{settings};
	local $ENV{PGAPPNAME} = 'pgbench'; # stop() waits for these sessions
	push @{ $self->{jobs} }, { text => \$text, name => $params{name} || $params{database} || 'postgres',
		run => IPC::Run::start([ @command, $params{database} || 'postgres' ], '<', \undef, '>', \$text, '2>&1') };
	return;
}

# Ends the programs; their sessions end with the statement in hand.
sub stop
{
	my ($self) = @_;
	for my $job (@{ $self->{jobs} })
	{
		IPC::Run::pump_nb($job->{run}) if $job->{run}->pumpable;
		$job->{run}->signal('INT');
	}
	for my $job (@{ $self->{jobs} }) { eval { $job->{run}->finish } }
	my @texts = map { { name => $_->{name}, text => ${ $_->{text} } } } @{ $self->{jobs} };
	$self->{jobs} = [];
	$self->{node}->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'pgbench'});
	return @texts;
}

sub complaints
{
	my ($pattern, @texts) = @_;
	return map { my $job = $_; map { "$job->{name}: $_" } grep { /ERROR|FATAL|PANIC|aborted/ && $_ !~ $pattern } split /\n/, $job->{text} } @texts;
}

sub stop_without_errors
{
	my ($self, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @running = grep { $_->{run}->pumpable } @{ $self->{jobs} };
	my $all = @{ $self->{jobs} };
	my @texts = $self->stop;
	my @complaints = complaints(qr/^$/, @texts);
	push @complaints, 'a program ended early' if @running != $all;
	push @complaints, map { "$_->{name}: went round not once" } grep { $_->{text} !~ /progress: \S+ s, (?!0\.0 tps)/ } @texts;
	return is_deeply(\@complaints, [], $name);
}

sub died_with_server
{
	my ($self, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @texts;
	for my $job (@{ $self->{jobs} }) { eval { $job->{run}->finish }; push @texts, { name => $job->{name}, text => ${ $job->{text} } } }
	$self->{jobs} = [];
	my $end = qr/shutting down|starting up|recovery mode|unexpected postmaster exit|aborted while|Run was aborted|terminating connection|server closed the connection|could not connect|connection to server|perhaps the backend died/;
	return is_deeply([ complaints($end, @texts) ], [], $name);
}

1;
