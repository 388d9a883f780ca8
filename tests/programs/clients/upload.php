<?php
// SPDX-License-Identifier: Apache-2.0
// Uploads by PHP's streams: see tests/README.md.
[, $host, $port, $size, $version, $trusted, $count] = $argv;
set_error_handler(function ($kind, $text) {
    fwrite(STDERR, "$text\n");
    exit(1);
});
$context = stream_context_create(['ssl' => ['cafile' => $trusted, 'verify_peer' => true, 'peer_name' => $host]]);
$data = str_repeat(implode('', array_map('chr', range(0, 250))), intdiv($size, 251) + 1);
for ($i = 0; $i < $count; $i++) {
    $connection = stream_socket_client("tlsv$version://$host:$port", $code, $text, 60, STREAM_CLIENT_CONNECT, $context);
    for ($sent = 0; $sent < $size; $sent += $written) {
        $written = fwrite($connection, substr($data, $sent, $size - $sent));
        if (!$written) {
            trigger_error("write");
        }
    }
    fclose($connection);
}
