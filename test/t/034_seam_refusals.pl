# The server does not start when somebody else has redirected one of the tables or import slots that pg_seal redirects, and says which and by whom; it
# starts in single-user mode and for `postgres -C` as it does otherwise.
use strict;
use warnings;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SealTest;
use Test::More;

my $node = SealTest->new('primary');
$node->init_seal;

# A library that is loaded first and puts a function of its own into the entry that SPOILED_ENTRY names.
my $directory = $node->basedir;
my $source = "$directory/spoiler.c";
open my $out, '>', $source or die "$source: $!";
print $out <<'C';
#define _GNU_SOURCE
#include "postgres.h"
#include "fmgr.h"
#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>
PG_MODULE_MAGIC;
void _PG_init(void);
static void *wanted;
static int spoilt;
static int spoil(struct dl_phdr_info *info, size_t size, void *unused)
{
	for (int i = 0; i < info->dlpi_phnum; i++)
	{
		const ElfW(Phdr) *h = &info->dlpi_phdr[i];
		uintptr_t begin = info->dlpi_addr + h->p_vaddr, end = begin + h->p_memsz;
		if (h->p_type != PT_GNU_RELRO)
			continue;
		for (void **at = (void **) ((begin + 7) / 8 * 8); (uintptr_t) (at + 1) <= end; at++)
			if (*at == wanted)
			{
				void *page = (void *) ((uintptr_t) at / 4096 * 4096);
				mprotect(page, 4096, PROT_READ | PROT_WRITE);
				*at = (void *) _PG_init;
				mprotect(page, 4096, PROT_READ);
				spoilt++;
			}
	}
	return 1;
}
void _PG_init(void)
{
	wanted = dlsym(RTLD_DEFAULT, getenv("SPOILED_ENTRY"));
	dl_iterate_phdr(spoil, NULL);
	ereport(LOG, (errmsg("spoilt %d entries", spoilt)));
}
C
close $out;
# The private copy of the server has no headers; the installation does.
my ($include) = grep { -e "$_/postgres.h" } map { (run_command([ $_, '--includedir-server' ]))[0] } grep { -x } map { "$_/pg_config" } split /:/, $ENV{PATH};
die 'the server\'s headers are missing: install what test/packages lists' if !$include;
my $library = "$directory/spoiler.so";
IPC::Run::run([ 'cc', '-shared', '-fPIC', '-o', $library, "-I$include", $source ]) or die 'the library that spoils tables does not compile';

for my $case ([ mdsyncfiletag => 'sync table' ], [ mdfiletagmatches => 'sync table' ], [ multixactmemberssyncfiletag => 'sync table' ],
	[ mdread => 'storage manager table' ], [ mdimmedsync => 'storage manager table' ])
{
	my ($entry, $table) = @$case;
	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$library, pg_seal'\n");
	local $ENV{SPOILED_ENTRY} = $entry;
	$node->start_fails_like(qr/FATAL:  pg_seal: the $table of PostgreSQL 15 was found 0 times.*entry "$entry" of the table already points into \S*spoiler\.so/s,
		"$entry is somebody else's: the server does not start, and says so");
}
for my $function (qw(pread pwritev ftruncate))
{
	local $ENV{SPOILED_ENTRY} = $function;
	$node->start_fails_like(qr/FATAL:  pg_seal: the server's import slot of "$function" does not point into the C library\n.*It points into \S*spoiler\.so/s,
		"the import slot of $function is somebody else's: the server does not start, and says so");
}
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_seal'\n");

# A preloaded library that intercepts a call the server makes.
my $preloaded = "$directory/intercept.so";
open $out, '>', "$directory/intercept.c" or die;
print $out <<'C';
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
ssize_t pread(int fd, void *buffer, size_t size, off_t offset)
{
	ssize_t (*next)(int, void *, size_t, off_t) = dlsym(RTLD_NEXT, "pread");
	return next(fd, buffer, size, offset);
}
C
close $out;
IPC::Run::run([ 'cc', '-shared', '-fPIC', '-o', $preloaded, "$directory/intercept.c" ]) or die 'the library that intercepts pread does not compile';
{
	local $ENV{LD_PRELOAD} = $preloaded;
	$node->start_fails_like(qr/FATAL:  pg_seal: the server's import slot of "pread" does not point into the C library\n.*It points into \S*intercept\.so.*LD_PRELOAD/s,
		'a preloaded library intercepts pread: the server does not start, and says so');
}

for my $fsync (qw(on off))
{
	$node->append_conf('postgresql.conf', "fsync = $fsync\n");
	my $input = "SELECT 'alone'\n";
	my ($output, $errors) = ('', '');
	ok(IPC::Run::run([ 'postgres', '--single', '-D', $node->data_dir, 'postgres' ], '<', \$input, '>', \$output, '2>', \$errors),
		"single-user mode starts, fsync $fsync") or diag($errors);
	ok(IPC::Run::run([ 'postgres', '-C', 'shared_buffers', '-D', $node->data_dir ], '>', \$output, '2>', \$errors),
		"postgres -C prints a setting, fsync $fsync") or diag($errors);
	$node->start;
	my $seam = $node->safe_psql('postgres', q{CREATE EXTENSION IF NOT EXISTS pg_seal; SELECT detail FROM seal.health WHERE check_name = 'storage seam'});
	like($seam, qr/sync table redirected, proved by a call/, "the seam is proved, fsync $fsync");
	like($node->safe_psql('postgres', q{SELECT detail FROM seal.health WHERE check_name = 'file seam'}),
		qr/^import slots redirected, proved by calls: open, close, read, write, pread, pwrite, pwritev, ftruncate\b/, "the file seam is proved, fsync $fsync");
	ok(-e $node->data_dir . '/postmaster.pid', 'and the process that proved it left the lock file alone');
	$node->stop;
}
done_testing();
