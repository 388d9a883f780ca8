// SPDX-License-Identifier: Apache-2.0
#include "client-lib/tools/opening.h"

#include <cerrno>
#include <cstdio>

#include "client-lib/tools/command.h"

namespace tlsbroker::tools {

int SayWhy(const char* command, const char* what, int result) {
  fprintf(stderr, "tlsbroker %s: %s: %s\n", command, what, tlsbroker_strerror(result));
  return result;
}

int WrapSocket(const char* command, const std::string& service_socket, UniqueFd socket,
               tlsbroker_role role, const ClientOptions& options, Connection& connection) {
  Queue queue;
  if (const int error = Queue::Attach(service_socket.c_str(), queue); error < 0)
    return SayWhy(command, service_socket.c_str(), error);
  std::vector<const char*> alpn;
  for (const std::string& protocol : options.alpn) alpn.push_back(protocol.c_str());
  const char* certificate = options.certificate.empty() ? nullptr : options.certificate.c_str();
  const tlsbroker_wrap_options client = {sizeof(client), options.name.c_str(), alpn.data(),
                                         alpn.size(), certificate};
  const int result =
      queue.Wrap(socket.get(), role, role == TLSBROKER_CLIENT ? &client : nullptr, connection);
  if (result < 0) return SayWhy(command, "no TLS", result);
  (void)socket.Release();  // the library's
  return 0;
}

int ExitStatusOf(int result) {
  switch (result) {
    case -EACCES:
    case -EINVAL:
    case -EPROTOTYPE:
    case -ENAMETOOLONG:
    case TLSBROKER_E_NOT_ALLOWED:
    case TLSBROKER_E_HANDSHAKE:
    case TLSBROKER_E_WRONG_NAME:
    case TLSBROKER_E_EXPIRED:
    case TLSBROKER_E_SELF_SIGNED:
    case TLSBROKER_E_UNKNOWN_CA:
    case TLSBROKER_E_PIN:
    case TLSBROKER_E_CERTIFICATE:
    case TLSBROKER_E_KTLS:
      return kExitPermanent;
    default:
      return kExitTemporary;
  }
}

}  // namespace tlsbroker::tools
