// SPDX-License-Identifier: Apache-2.0
// Makes text that anybody may have written safe to show: no byte of it moves a cursor, ends a line
// or reverses the text beside it. Runs in the logger.

#ifndef TLSBROKER_BROKER_LOGGER_ESCAPE_H_
#define TLSBROKER_BROKER_LOGGER_ESCAPE_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace tlsbroker::logger {

struct Escaped {
  std::string text;
  bool whole = true;  // all of it had room
};

// Valid UTF-8 (RFC 3629) stays, but for the control characters of ASCII (a tab stays), DEL, those
// of ISO 8859 (C1), the separators of lines and paragraphs, and those that set the direction of
// text. These, and all that is no UTF-8, become \xHH byte by byte. A backslash stays what it is,
// since what the processes of the broker write is escaped already (log::Printable). The result has
// at most `room` bytes, and never half of an escape or of a character.
Escaped Escape(std::string_view text, size_t room);

}  // namespace tlsbroker::logger

#endif  // TLSBROKER_BROKER_LOGGER_ESCAPE_H_
