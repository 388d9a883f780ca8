// SPDX-License-Identifier: Apache-2.0
// See the header; the commands are those of <linux/ethtool.h>.

#include "client-lib/tools/nic_features.h"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "protocol/unique_fd.h"

namespace tlsbroker::tools {
namespace {

// A structure of <linux/ethtool.h> with the array that follows it.
template <typename Head>
class Message {
 public:
  Message(uint32_t command, size_t tail)
      : words_((sizeof(Head) + tail + sizeof(uint64_t) - 1) / sizeof(uint64_t)) {
    head()->cmd = command;
  }
  Head* head() { return reinterpret_cast<Head*>(words_.data()); }

 private:
  std::vector<uint64_t> words_;
};

bool Ask(int socket, const std::string& interface, void* message) {
  ifreq request{};
  if (interface.size() >= sizeof(request.ifr_name)) return false;
  memcpy(request.ifr_name, interface.data(), interface.size());
  request.ifr_data = static_cast<char*>(message);
  return ioctl(socket, SIOCETHTOOL, &request) == 0;
}

uint32_t FeatureCount(int socket, const std::string& interface) {
  Message<ethtool_sset_info> message(ETHTOOL_GSSET_INFO, sizeof(uint32_t));
  message.head()->sset_mask = uint64_t{1} << ETH_SS_FEATURES;
  if (!Ask(socket, interface, message.head()) || message.head()->sset_mask == 0) return 0;
  return message.head()->data[0];
}

std::vector<std::string> FeatureNames(int socket, const std::string& interface, uint32_t count) {
  Message<ethtool_gstrings> message(ETHTOOL_GSTRINGS, size_t{count} * ETH_GSTRING_LEN);
  message.head()->string_set = ETH_SS_FEATURES;
  message.head()->len = count;
  std::vector<std::string> names;
  if (!Ask(socket, interface, message.head())) return names;
  for (uint32_t i = 0; i < count && i < message.head()->len; ++i) {
    const char* name = reinterpret_cast<char*>(message.head()->data) + size_t{i} * ETH_GSTRING_LEN;
    names.emplace_back(name, strnlen(name, ETH_GSTRING_LEN));
  }
  return names;
}

// The feature cannot be changed; ethtool(8) says "[fixed]".
FeatureState StateOf(const ethtool_get_features_block& block, uint32_t bit) {
  return {(block.active & bit) != 0,
          (block.available & bit) == 0 || (block.never_changed & bit) != 0};
}

Interface ReadInterface(int socket, const std::string& name) {
  Interface interface {
    name, {}
  };
  const std::vector<std::string> names = FeatureNames(socket, name, FeatureCount(socket, name));
  const size_t blocks = (names.size() + 31) / 32;
  Message<ethtool_gfeatures> message(ETHTOOL_GFEATURES,
                                     blocks * sizeof(ethtool_get_features_block));
  message.head()->size = static_cast<uint32_t>(blocks);
  if (names.empty() || !Ask(socket, name, message.head())) return interface;
  for (size_t i = 0; i < names.size(); ++i) {
    for (size_t feature = 0; feature < kTlsFeatures.size(); ++feature) {
      if (names[i] != kTlsFeatures[feature]) continue;
      interface.features[feature] =
          StateOf(message.head()->features[i / 32], uint32_t{1} << (i % 32));
    }
  }
  return interface;
}

}  // namespace

std::vector<Interface> ReadInterfaces() {
  std::vector<Interface> interfaces;
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const std::unique_ptr<struct if_nameindex, decltype(&if_freenameindex)> names(if_nameindex(),
                                                                                if_freenameindex);
  if (!socket || !names) return interfaces;
  for (const struct if_nameindex* each = names.get(); each->if_index != 0; ++each) {
    interfaces.push_back(ReadInterface(socket.get(), each->if_name));
  }
  return interfaces;
}

}  // namespace tlsbroker::tools
