# SPDX-License-Identifier: MIT

# stream.pl LEASE JOB: see test_languages.py.

use strict;
use warnings;
use IO::Handle;

sub put {
    my ($name, $text) = @_;
    open my $file, '>', $name or die "$name: $!";
    print $file $text;
    close $file or die "$name: $!";
}

# Print what comes, a line at a time, and answer the first.
sub show {
    my ($name) = @_;
    open my $file, '<', $name or die "$name: $!";
    while (<$file>) {
        print;
        put('ctl', "signal USR1\n") if $_ eq "one\n";
    }
    close $file or die "$name: $!";
}

chdir $ARGV[0] or die "$ARGV[0]: $!";
put('cmd', $ARGV[1]);
show('output');
show('exit_code');

open my $cmd, '+<', 'cmd' or die "cmd: $!";
$cmd->autoflush;
print $cmd 'echo a';
print $cmd 'b';
print while <$cmd>;
close $cmd or die "cmd: $!";

put('timeout', "0.2\n");
put('cmd', 'sleep 1000');
show('exit_code');
