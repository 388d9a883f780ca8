// SPDX-License-Identifier: Apache-2.0
/* Preloaded into gnutls-cli, which makes its standard output unbuffered and writes it byte by byte:
 * 8 MiB would take minutes in a guest. */

#include <stdio.h>

#define EXPORTED __attribute__((visibility("default")))

EXPORTED void setbuf(FILE* stream, char* buffer) {
  (void)stream;
  (void)buffer;
}

EXPORTED int setvbuf(FILE* stream, char* buffer, int mode, size_t size) {
  (void)stream;
  (void)buffer;
  (void)mode;
  (void)size;
  return 0;
}
