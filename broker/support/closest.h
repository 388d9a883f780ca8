// SPDX-License-Identifier: Apache-2.0
// What somebody meant who made a typing mistake. In the supervisor and in `tlsbroker`, for words of
// the administrator's.

#ifndef TLSBROKER_BROKER_SUPPORT_CLOSEST_H_
#define TLSBROKER_BROKER_SUPPORT_CLOSEST_H_

#include <string>
#include <string_view>
#include <vector>

namespace tlsbroker {

// The candidate that differs from `word` by a typing mistake; empty if none is that close.
std::string Closest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_SUPPORT_CLOSEST_H_
