vcl 4.1;
# SPDX-License-Identifier: Apache-2.0

backend default {
  .host = "127.0.0.1";
  .port = "{backend}";
}
