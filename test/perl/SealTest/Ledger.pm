# SealTest::Ledger: sealed tables of known content, and the question whether all of them still hold it.
#
#   my $ledger = SealTest::Ledger->new($node, tablespace => 'secure');
#   $ledger->make('t1');             a table, its primary key and its TOAST table, all in the tablespace
#   $ledger->holds('after a crash'); one test: every table made so far, by sequential and by index scan
#
# What is expected is computed from the table's name alone, never read from the table.
package SealTest::Ledger;

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use SealTest;
use Test::More;

use constant ROWS => 120;

sub new
{
	my ($class, $node, %params) = @_;
	return bless { node => $node, database => $params{database} || 'postgres', tablespace => $params{tablespace} || 'secure',
		tables => {} }, $class;
}

# The statement that makes the table, for those who run it themselves.
sub statement
{
	my ($self, $name) = @_;
	my $in = "TABLESPACE $self->{tablespace}";
	return qq{
		CREATE TABLE $name (id int, note text, long text, PRIMARY KEY (id) USING INDEX $in) $in;
		ALTER TABLE $name ALTER long SET STORAGE EXTERNAL;
		INSERT INTO $name } . content($name) . ';';
}

sub content
{
	my ($name) = @_;
	return "SELECT g AS id, md5('$name' || g) AS note, CASE WHEN g % 20 = 0 THEN repeat(md5(g || '$name'), 90) END AS long"
	  . ' FROM generate_series(1, ' . ROWS . ') g';
}

sub digest
{
	my ($from) = @_;
	return "SELECT count(*) || ' ' || md5(string_agg(id || note || coalesce(long, ''), ',' ORDER BY id)) FROM ($from) x";
}

sub make
{
	my ($self, $name) = @_;
	$self->{node}->safe_psql($self->{database}, $self->statement($name));
	$self->add($name);
	return;
}

sub add
{
	my ($self, $name) = @_;
	$self->{tables}{$name} = $self->{node}->safe_psql($self->{database}, digest(content($name)));
	return;
}

sub remove { my ($self, $name) = @_; delete $self->{tables}{$name}; return }

sub holds
{
	my ($self, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @names = sort keys %{ $self->{tables} };
	my $query = join ' UNION ALL ', map { "SELECT '$_', (" . digest("SELECT * FROM $_") . "), (SELECT count(note) FROM $_ WHERE id = 7)" } @names;
	my @got;
	for my $scans ('SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off;', 'SET enable_seqscan = off; SET enable_bitmapscan = off;')
	{
		my ($status, $out, $err) = $self->{node}->psql($self->{database}, "$scans $query");
		push @got, $status == 0 ? split(/\n/, $out) : $err;
	}
	my @expected = map { "$_|$self->{tables}{$_}|1" } @names;
	return is_deeply(\@got, [ @expected, @expected ], "$what: all sealed tables hold what was written");
}

1;
