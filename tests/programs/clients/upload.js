// SPDX-License-Identifier: Apache-2.0
// Uploads by Node's tls: see tests/README.md. `finish` comes when all is written, close_notify and FIN included.
'use strict';
const fs = require('fs');
const tls = require('tls');

const [host, port, size, version, trusted, count] = process.argv.slice(2);
const ca = fs.readFileSync(trusted);
const data = Buffer.from(Array.from({ length: Number(size) }, (_, i) => i % 251));

function upload(left) {
  if (left === 0) return;
  const connection = tls.connect({ host, port, ca, minVersion: `TLSv${version}`, maxVersion: `TLSv${version}` }, () => {
    connection.end(data);
  });
  connection.on('finish', () => connection.destroy());
  connection.on('close', () => upload(left - 1));
  connection.on('error', (error) => {
    console.error(error.message);
    process.exit(1);
  });
}

upload(Number(count));
