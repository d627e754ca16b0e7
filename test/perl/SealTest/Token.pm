# SealTest::Token: a SoftHSM token in a directory of its own, with its own configuration file and PIN file.
#
#   my $token = SealTest::Token->new(label => 'seal');
#   $token->config                      the provider's JSON (module, token, pin_file, environment)
#   $token->config(pin_file => ...)     the same with members replaced
#   $token->tool(...), $token->import_key(...)
#   $token->hide; $token->show          the token's directory put away and back: "the HSM is gone"
package SealTest::Token;

use strict;
use warnings;

use JSON::PP;
use PostgreSQL::Test::Utils;

sub new
{
	my ($class, %params) = @_;
	my $home = PostgreSQL::Test::Utils::tempdir('token');
	my $self = bless {
		home => $home,
		label => $params{label} || 'seal',
		pin => $params{pin} || sprintf('%08d', int rand 1e8),
		module => $params{module} || $ENV{SEAL_SOFTHSM_MODULE} || '/usr/lib/softhsm/libsofthsm2.so',
		conf => "$home/softhsm2.conf",
		pin_file => "$home/pin",
	}, $class;
	mkdir "$home/tokens" or die "$home/tokens: $!";
	$self->write($self->{conf}, "directories.tokendir = $home/tokens\nobjectstore.backend = file\nlog.level = ERROR\n");
	$self->write($self->{pin_file}, $self->{pin});
	$self->init_token($self->{label});
	return $self;
}

# Another token in the same SoftHSM, with the same PIN.
sub init_token
{
	my ($self, $label) = @_;
	local $ENV{SOFTHSM2_CONF} = $self->{conf};
	system_or_bail('softhsm2-util', '--init-token', '--free', '--label', $label, '--so-pin', '12345678', '--pin', $self->{pin});
	return;
}

sub write
{
	my ($self, $path, $text) = @_;
	open my $file, '>', $path or die "$path: $!";
	print $file $text;
	close $file or die "$path: $!";
	chmod 0600, $path;
	return;
}

sub config
{
	my ($self, %replace) = @_;
	my %config = (module => $self->{module}, token => $self->{label}, pin_file => $self->{pin_file},
		environment => { SOFTHSM2_CONF => $self->{conf} }, %replace);
	delete @config{ grep { !defined $config{$_} } keys %config };
	return JSON::PP->new->canonical->encode(\%config);
}

sub hide { my ($self) = @_; rename "$self->{home}/tokens", "$self->{home}/away" or die "hide: $!"; return }
sub show { my ($self) = @_; rename "$self->{home}/away", "$self->{home}/tokens" or die "show: $!"; return }

# tool(options of pkcs11-tool): runs it, logged in.
sub tool
{
	my ($self, @options) = @_;
	local $ENV{SOFTHSM2_CONF} = $self->{conf};
	system_or_bail('pkcs11-tool', '--module', $self->{module}, '--token-label', $self->{label}, '--login', '--pin', $self->{pin}, @options);
	return;
}

# import_key('label', $bytes): a key of known value, not extractable from then on; to be adopted with create_kek => false.
sub import_key
{
	my ($self, $label, $bytes) = @_;
	my $path = "$self->{home}/import";
	$self->write($path, $bytes);
	local $ENV{SOFTHSM2_CONF} = $self->{conf};
	system_or_bail('softhsm2-util', '--import', $path, '--aes', '--token', $self->{label}, '--label', $label, '--id',
		sprintf('%08x', int rand 0x7FFFFFFF), '--pin', $self->{pin});
	unlink $path;
	return;
}

# objects(): the labels that pkcs11-tool lists, to see what was made inside.
sub objects
{
	my ($self) = @_;
	local $ENV{SOFTHSM2_CONF} = $self->{conf};
	my $list = '';
	IPC::Run::run([ 'pkcs11-tool', '--module', $self->{module}, '--token-label', $self->{label}, '--login', '--pin', $self->{pin},
			'--list-objects' ], '>', \$list, '2>', '/dev/null');
	return $list =~ /^\s*label:\s*(.*?)\s*$/mg;
}

1;
