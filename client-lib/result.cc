// SPDX-License-Identifier: Apache-2.0
// What the results of the library mean, for people. Part of libtlsbroker.

#include <cstring>

#include "tlsbroker/tlsbroker.h"

const char* tlsbroker_strerror(int result) {
  switch (result) {
    case TLSBROKER_E_TRUNCATED:
      return "The stream was cut off before the peer ended it";
    case TLSBROKER_E_ALERT:
      return "The peer sent a fatal alert";
    case TLSBROKER_E_REKEY:
      return "The connection's keys cannot be changed here";
    case TLSBROKER_E_PROTOCOL:
      return "The peer violated the TLS protocol";
    case TLSBROKER_E_HANDOFF:
      return "The broker handed over a connection in an unknown way";
    case TLSBROKER_E_GONE:
      return "The broker is gone";
    case TLSBROKER_E_NOT_ALLOWED:
      return "The broker's configuration does not allow this connection";
    case TLSBROKER_E_BUSY:
      return "The broker has too many such handshakes under way";
    case TLSBROKER_E_CONNECT:
      return "The upstream cannot be connected to";
    case TLSBROKER_E_TIMEOUT:
      return "The connection and its handshake took too long";
    case TLSBROKER_E_HANDSHAKE:
      return "The TLS handshake failed";
    case TLSBROKER_E_WRONG_NAME:
      return "The server's certificate is for another name";
    case TLSBROKER_E_EXPIRED:
      return "The server's certificate has expired or is not valid yet";
    case TLSBROKER_E_SELF_SIGNED:
      return "The server's certificate is self-signed";
    case TLSBROKER_E_UNKNOWN_CA:
      return "The server's certificate is not signed by anybody who is trusted";
    case TLSBROKER_E_PIN:
      return "The server has none of the pinned keys";
    case TLSBROKER_E_CERTIFICATE:
      return "The server's certificate is not acceptable";
    case TLSBROKER_E_KTLS:
      return "The connection cannot have kernel TLS, and may not be relayed";
    case TLSBROKER_E_BROKER:
      return "The broker failed, or does not answer";
    default: {
      // The kernel's error numbers end at 4095 (errno.h's MAX_ERRNO), and not all of them have a
      // text.
      const bool is_errno = result <= 0 && result >= -4095;
      const char* text = is_errno ? strerrordesc_np(-result) : nullptr;
      return text != nullptr ? text : "Unknown error";
    }
  }
}
