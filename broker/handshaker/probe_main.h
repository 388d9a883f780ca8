// SPDX-License-Identifier: Apache-2.0
// `tlsbroker-handshaker --probe`: the capability probe's result for `tlsbroker probe`, which links
// no OpenSSL and so cannot find out by itself. Runs in a process of its own, with the caller's
// rights.

#ifndef TLSBROKER_BROKER_HANDSHAKER_PROBE_MAIN_H_
#define TLSBROKER_BROKER_HANDSHAKER_PROBE_MAIN_H_

namespace tlsbroker {

// Writes the result to stdout, one tab-separated record a line, the format in probe_main.cc.
// Returns the exit status: 0 if the probe ran, whatever it found, else 1.
int ProbeMain();

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_PROBE_MAIN_H_
