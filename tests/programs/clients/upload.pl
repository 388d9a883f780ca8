#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# Uploads by Perl's IO::Socket::SSL: see tests/README.md.
use strict;
use warnings;
use IO::Socket::SSL;

my ($host, $port, $size, $version, $trusted, $count) = @ARGV;
my $data = pack('C*', map { $_ % 251 } 0 .. $size - 1);
for (1 .. $count) {
    my $connection = IO::Socket::SSL->new(
        PeerHost => $host,
        PeerPort => $port,
        SSL_version => $version eq '1.2' ? 'TLSv1_2' : 'TLSv1_3',
        SSL_ca_file => $trusted,
        SSL_verify_mode => SSL_VERIFY_PEER,
        SSL_verifycn_scheme => 'http',
    ) or die "connect: $!, $SSL_ERROR\n";
    for (my $sent = 0; $sent < $size;) {
        $sent += $connection->syswrite($data, $size - $sent, $sent) || die "write: $!, $SSL_ERROR\n";
    }
    $connection->close or die "close: $!, $SSL_ERROR\n";
}
