// SPDX-License-Identifier: Apache-2.0
const crypto = require("crypto");
const http = require("http");

http.createServer({ keepAliveTimeout: 60000 }, (request, response) => {
  if (request.url === "/page") {
    response.end("hello\n".repeat(2000));
  } else if (request.url === "/digest") {
    const digest = crypto.createHash("sha256");
    request.on("data", (piece) => digest.update(piece));
    request.on("end", () => response.end(digest.digest("hex")));
  } else {
    response.writeHead(404).end();
  }
}).listen(Number(process.argv[2]), "127.0.0.1");
