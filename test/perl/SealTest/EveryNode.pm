# SealTest::EveryNode: makes every node of PostgreSQL's own TAP scripts a server with pg_seal, keys and sealed WAL. Loaded by PERL5OPT (test/core_recovery).
#
# Each node that is initialised gets the library, a token of its own, a provider and a keyring over it, and begins a sealed segment; then it is
# stopped, as the script expects it. The extension is dropped again: catalogs are what initdb made. Nodes made from backups have it all from there.
package SealTest::EveryNode;

use strict;
use warnings;

delete $ENV{PERL5OPT};    # programs that a script runs are left alone

if ($0 =~ m{(?:^|/)t/\d\w*\.pl$})
{
	require PostgreSQL::Test::Cluster;
	require SealTest::Token;
	no warnings 'redefine';
	my $init = \&PostgreSQL::Test::Cluster::init;
	*PostgreSQL::Test::Cluster::init = sub {
		my ($self, %params) = @_;
		$init->($self, %params);
		prepare($self);
		return;
	};
}

# In single steps of the shell's kind: the node's own start() and safe_psql() write logs that scripts read.
sub prepare
{
	my ($node) = @_;
	my $token = SealTest::Token->new;
	my $config = $token->config =~ s/'/''/gr;
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_seal'\n");
	my $log = $node->basedir . '/prepare.log';
	local %ENV = $node->_get_env();
	PostgreSQL::Test::Utils::system_or_bail('pg_ctl', '-w', '-s', '-D', $node->data_dir, '-l', $log, '-o', '-c archive_mode=off', 'start');
	PostgreSQL::Test::Utils::system_or_bail('psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-o', '/dev/null', map { ('-c', $_) }
		'CREATE EXTENSION pg_seal', "SELECT seal.add_provider('hsm', 'pkcs11', '$config')", q{SELECT seal.create_keyring('default', 'hsm')}, 'SELECT seal.enable_wal_encryption()',
		'DROP EXTENSION pg_seal');
	PostgreSQL::Test::Utils::system_or_bail('pg_ctl', '-w', '-s', '-D', $node->data_dir, '-m', 'fast', 'stop');
	return;
}

1;
