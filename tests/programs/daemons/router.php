<?php
// SPDX-License-Identifier: Apache-2.0
header("Content-Type: text/plain");
switch ($_SERVER["SCRIPT_NAME"]) {
  case "/page":
    echo str_repeat("hello\n", 2000);
    break;
  case "/digest":
    echo hash("sha256", file_get_contents("php://input"));
    break;
  default:
    http_response_code(404);
}
