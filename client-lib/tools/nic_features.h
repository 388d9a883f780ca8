// SPDX-License-Identifier: Apache-2.0
// TLS offload features of the network interfaces, by the ethtool ioctl, which needs no privilege.
// Runs in `tlsbroker probe`; interface names are the choice of whoever named the interfaces.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_NIC_FEATURES_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_NIC_FEATURES_H_

#include <array>
#include <optional>
#include <string>
#include <vector>

namespace tlsbroker::tools {

// netdev_features_strings of net/ethtool/common.c.
inline constexpr std::array<const char*, 3> kTlsFeatures = {"tls-hw-tx-offload",
                                                            "tls-hw-rx-offload", "tls-hw-record"};

struct FeatureState {
  bool on = false;
  bool fixed = false;  // the driver allows no change
};

struct Interface {
  std::string name;
  // In the order of kTlsFeatures; nothing where the kernel does not know the feature.
  std::array<std::optional<FeatureState>, kTlsFeatures.size()> features;
};

// All interfaces of this network namespace; empty if there are none, or no ioctl.
std::vector<Interface> ReadInterfaces();

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_NIC_FEATURES_H_
