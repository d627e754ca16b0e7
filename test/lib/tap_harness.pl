#!/usr/bin/perl
# Runs TAP tests and writes "PASSED FAILED" to a file.
#
#   tap_harness.pl --counts FILE [--chdir DIR] [--jobs N] [--pgtap DATABASE] TEST...
#
# A test script that dies, ends early or has no plan is one failure, even if everything it printed was ok. A skipped
# test is a failure: nothing is left out without anybody noticing.
use strict;
use warnings;
use File::Basename;
use Getopt::Long;
use TAP::Harness;

my ($counts_file, $jobs, $database, $directory) = (undef, 1, undef, '.');
GetOptions('counts=s' => \$counts_file, 'chdir=s' => \$directory, 'jobs=i' => \$jobs, 'pgtap=s' => \$database) or exit 2;
chdir $directory or die "$directory: $!\n";
die "no --counts\n" unless defined $counts_file;

my %options = (jobs => $jobs, timer => 1, color => -t STDOUT ? 1 : 0, failures => 1);
$options{sources} = { pgTAP => { dbname => $database, suffix => '.sql' } }
  if defined $database;

my $harness = TAP::Harness->new(\%options);
my ($passed, $failed) = (0, 0);
$harness->callback(
	after_test => sub {
		my ($job, $parser) = @_;
		my $bad = scalar $parser->failed;
		my @skipped = $parser->skipped;
		$bad += @skipped if @skipped;
		if (defined $parser->skip_all && $parser->skip_all ne '') { $bad = 1; print "# skipped as a whole: $job->[0]\n" }
		$bad = 1 if !$bad && !$parser->is_good_plan;
		$bad = 1 if !$bad && ($parser->exit || $parser->wait || $parser->parse_errors);
		$failed += $bad;
		show_log($job->[0]) if $bad;
		$passed += scalar($parser->passed) - scalar(@skipped);
	});
# The end of what PostgreSQL::Test logged for a script, where there is such a log.
sub show_log
{
	my ($script) = @_;
	my $name = basename($script);
	$name =~ s/\.[^.]+$//;
	open my $log, '<', ($ENV{TESTDIR} // '.') . "/tmp_check/log/regress_log_$name" or return;
	my @lines = <$log>;
	splice @lines, 0, -30 if @lines > 30;
	print "\n--- $name, end of its log\n", (map { '    ' . substr($_, 0, 600) } @lines), "\n";
	return;
}

# A script that bails out stops the others: that is one failure, and what ran before it still counts.
eval { $harness->runtests(@ARGV); 1 } or do { print $@; $failed++ };

open my $counts, '>', $counts_file or die "$counts_file: $!\n";
print $counts "$passed $failed\n";
close $counts or die "$counts_file: $!\n";
exit($failed ? 1 : 0);
