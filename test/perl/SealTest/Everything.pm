# SealTest::Everything: one relation of every kind that keeps pages on disk, of known content, all in one tablespace.
#
#   my $all = SealTest::Everything->new($node, tablespace => 'store', database => 'postgres');
#   $all->make;                   default_tablespace does it; the database's own, when tablespace is undef
#   $all->text                    stands in clear in many of its pages, in sequence names and keys alike
#   $all->digest                  one line that tells of every row in every permanent relation
#   $all->unlogged_digest         the same for what a crash empties
#   $all->is_intact('claim')      one test: amcheck finds nothing in any table or index of the database's user schemas
package SealTest::Everything;

use strict;
use warnings;

use SealTest;
use Test::More;

use constant ROWS => 2000;

sub new
{
	my ($class, $node, %params) = @_;
	return bless { node => $node, database => $params{database} || 'postgres', tablespace => $params{tablespace},
		text => $params{text} || 'canary-5be2c9', rows => $params{rows} || ROWS }, $class;
}

sub text { my ($self) = @_; return $self->{text} }

sub make
{
	my ($self) = @_;
	my ($text, $rows) = @{$self}{qw(text rows)};
	my $in = defined $self->{tablespace} ? "SET default_tablespace = $self->{tablespace};" : '';
	$self->{node}->safe_psql($self->{database}, qq{
		CREATE EXTENSION IF NOT EXISTS amcheck;
		CREATE EXTENSION IF NOT EXISTS bloom;
		$in
		-- heap with TOAST, a serial, and an index of every kind
		CREATE TABLE heap (id serial PRIMARY KEY, note text, long text, words tsvector, numbers int[], place point, span int4range);
		ALTER TABLE heap ALTER long SET STORAGE EXTERNAL;
		INSERT INTO heap (note, long, words, numbers, place, span)
			SELECT '$text ' || md5(g::text), CASE WHEN g % 25 = 0 THEN repeat('$text ' || g, 300) END, to_tsvector('simple', '$text w' || g % 97),
				ARRAY[g, g % 13, g % 101], point(g % 31, g % 29), int4range(g, g + 10) FROM generate_series(1, $rows) g;
		CREATE INDEX heap_btree ON heap (note, id);
		CREATE INDEX heap_hash ON heap USING hash (note);
		CREATE INDEX heap_gin ON heap USING gin (words);
		CREATE INDEX heap_gin_numbers ON heap USING gin (numbers);
		CREATE INDEX heap_gist ON heap USING gist (place);
		CREATE INDEX heap_gist_span ON heap USING gist (span);
		CREATE INDEX heap_spgist ON heap USING spgist (note);
		CREATE INDEX heap_brin ON heap USING brin (id);
		CREATE INDEX heap_bloom ON heap USING bloom (id, note);
		CREATE INDEX heap_partial ON heap (id) WHERE note = 'nobody';
		-- free space and visibility maps of more than one relation
		CREATE TABLE holes (id int PRIMARY KEY, pad text);
		INSERT INTO holes SELECT g, repeat('$text', 20) FROM generate_series(1, $rows * 2) g;
		DELETE FROM holes WHERE id % 3 = 0;
		VACUUM holes;
		VACUUM heap;
		-- partitions
		CREATE TABLE hashed (id int, note text, PRIMARY KEY (id)) PARTITION BY HASH (id);
		SELECT format('CREATE TABLE hashed_%s PARTITION OF hashed FOR VALUES WITH (MODULUS 4, REMAINDER %s)', r, r) FROM generate_series(0, 3) r \\gexec
		INSERT INTO hashed SELECT g, '$text ' || g FROM generate_series(1, $rows) g;
		CREATE TABLE ranged (id int, note text) PARTITION BY RANGE (id);
		CREATE TABLE ranged_low PARTITION OF ranged FOR VALUES FROM (0) TO ($rows / 2);
		CREATE TABLE ranged_rest PARTITION OF ranged DEFAULT;
		CREATE INDEX ranged_note ON ranged (note);
		INSERT INTO ranged SELECT g, '$text ' || g FROM generate_series(1, $rows) g;
		-- small, odd and derived
		CREATE TABLE empty (id int PRIMARY KEY, note text);
		CREATE TABLE one_page (id int, note text);
		INSERT INTO one_page VALUES (1, '$text');
		CREATE MATERIALIZED VIEW derived AS SELECT id, note FROM heap WHERE id % 2 = 0;
		CREATE UNIQUE INDEX derived_id ON derived (id);
		CREATE SEQUENCE counter START 1000;
		SELECT nextval('counter');
		CREATE TABLE "$text" (id int PRIMARY KEY);
		INSERT INTO "$text" SELECT generate_series(1, 100);
		-- unlogged: tables, TOAST, indexes, a sequence
		CREATE UNLOGGED TABLE unlogged (id serial PRIMARY KEY, note text, long text);
		ALTER TABLE unlogged ALTER long SET STORAGE EXTERNAL;
		INSERT INTO unlogged (note, long) SELECT '$text ' || g, CASE WHEN g % 50 = 0 THEN repeat('$text', 400) END FROM generate_series(1, $rows) g;
		CREATE INDEX unlogged_hash ON unlogged USING hash (note);
		CREATE INDEX unlogged_gin ON unlogged USING gin (to_tsvector('simple', note));
		CREATE UNLOGGED TABLE unlogged_empty (id int PRIMARY KEY, note text);
		CREATE UNLOGGED SEQUENCE unlogged_counter START 500;
		SELECT nextval('unlogged_counter');
		-- large objects lie in a catalog: in the tablespace only when it is the database's own
		SELECT lo_from_bytea(800000 + g, convert_to(repeat('$text ' || g, 500), 'UTF8')) FROM generate_series(1, 20) g;
	});
	return;
}

my @tables = qw(heap holes hashed ranged empty one_page derived);

sub digest
{
	my ($self) = @_;
	my @parts = map { "(SELECT '$_ ' || count(*) || ' ' || coalesce(md5(string_agg(x::text, '|' ORDER BY x.id)), '') FROM $_ x)" } @tables;
	push @parts, "(SELECT 'large ' || count(*) || ' ' || md5(string_agg(md5(lo_get(oid)), '' ORDER BY oid)) FROM pg_largeobject_metadata)";
	push @parts, "(SELECT 'counter ' || last_value FROM counter)";
	# the same rows again, each time by another index
	push @parts, map { "(SELECT 'by $_->[0] ' || count(*) || ' ' || sum(id) FROM heap WHERE $_->[1])" } (
		[ 'btree', "note LIKE '$self->{text} a%'" ], [ 'hash', "note = '$self->{text} ' || md5('77')" ], [ 'gin', "words @@ to_tsquery('simple', 'w13')" ],
		[ 'numbers', 'numbers @> ARRAY[7]' ], [ 'gist', "place <@ box '((2,2),(9,9))'" ], [ 'span', "span && int4range(50, 70)" ],
		[ 'spgist', "note ^@ '$self->{text} b'" ], [ 'brin', 'id BETWEEN 100 AND 300' ], [ 'bloom', "id = 42 AND note = '$self->{text} ' || md5('42')" ]);
	return $self->{node}->safe_psql($self->{database}, 'SET enable_seqscan = off; SELECT ' . join(q{ || E'\n' || }, @parts));
}

sub unlogged_digest
{
	my ($self) = @_;
	return $self->{node}->safe_psql($self->{database}, q{SELECT count(*), md5(string_agg(x::text, '|' ORDER BY x.id)), (SELECT last_value FROM unlogged_counter),
		(SELECT count(*) FROM unlogged_empty) FROM unlogged x});
}

# Every page of every heap, every tuple in its btree; other index kinds are read by digest().
sub is_intact
{
	my ($self, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($status, $out, $err) = $self->{node}->psql($self->{database}, q{
		SELECT c.oid::regclass, v.* FROM pg_class c, LATERAL verify_heapam(c.oid, check_toast => true) v
			WHERE relkind IN ('r', 't', 'm') AND relpersistence <> 't';
		SELECT count(bt_index_check(c.oid, true)::text) > 0 FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_am a ON a.oid = c.relam
			WHERE amname = 'btree' AND c.relkind = 'i' AND indisvalid AND indisready AND relpersistence <> 't'});
	return is("$status|$out|$err", '0|t|', $name);
}

1;
