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
    default: {
      // The kernel's error numbers end at 4095 (errno.h's MAX_ERRNO), and not all of them have a
      // text.
      const bool is_errno = result <= 0 && result >= -4095;
      const char* text = is_errno ? strerrordesc_np(-result) : nullptr;
      return text != nullptr ? text : "Unknown error";
    }
  }
}
