# SealTest::Crash: a server that dies at a named step (pg_seal.debug_crash_point), alone or with the whole machine.
#
#   init_for_crashes($node, ...)                     as init_seal; a crashed backend makes the server restart by itself
#   die_at($node, 'keymap.after_write', $sql)        the session dies there; returns when the server accepts connections again
#   die_at($node, ..., power => 1)                   every process is stopped at that moment and killed; the node is down
#   recovery_dies_at($node, 'keymap.redo_...')       starts the stopped node with the step set: it must die in recovery
package SealTest::Crash;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Utils;
use SealTest;
use Test::More;

our @EXPORT = qw(init_for_crashes die_at recovery_dies_at wait_until_up);

sub init_for_crashes
{
	my ($node, %params) = @_;
	$params{conf} = "restart_after_crash = on\nwal_level = replica\nmax_wal_senders = 5\n" . ($params{conf} || '');
	$node->init_seal(%params);
	return;
}

# Waits until the server, from this point of its log on, has recovered.
sub wait_until_up
{
	my ($node, $log_offset) = @_;
	$node->wait_for_log(qr/database system is ready to accept connections/, $log_offset);
	$node->poll_query_until('postgres', 'SELECT true') or die 'the server does not come up again';
	return;
}

sub die_at
{
	my ($node, $point, $sql, %params) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $log_offset = -s $node->logfile || 0;
	# With the postmaster stopped nothing else happens after the step: what is on disk is what the dying process left.
	my $stop = $params{power} ? "\\! kill -STOP $node->{_pid}\n" : '';
	my ($status, $out, $err) = $node->psql($params{database} || 'postgres', "SET pg_seal.debug_crash_point = '$point';\n$stop$sql");
	my $died = $status != 0 && $err =~ /server closed the connection unexpectedly|connection to server was lost/;
	ok($died, "$point: the process dies there" . ($params{power} ? ' and the machine with it' : '')) or diag("status $status: $err");
	if ($params{power}) { $node->crash }
	elsif ($died) { wait_until_up($node, $log_offset) }
	return $died;
}

sub recovery_dies_at
{
	my ($node, $point) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->append_conf('postgresql.conf', "pg_seal.debug_crash_point = '$point'\n");
	$node->start_fails_like(qr/startup process \(PID \d+\) was terminated by signal 9/, "$point: recovery dies there");
	$node->append_conf('postgresql.conf', "pg_seal.debug_crash_point = ''\n");
	return;
}

1;
