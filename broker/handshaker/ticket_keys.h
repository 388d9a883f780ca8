// SPDX-License-Identifier: Apache-2.0
// The session ticket keys that all handshakers of a service share: the supervisor makes them, so a
// ticket of one handshaker resumes at any other, before and after a reload. Runs in the handshaker;
// tickets come from the Internet and are authenticated before anything in them is looked at.

#ifndef TLSBROKER_BROKER_HANDSHAKER_TICKET_KEYS_H_
#define TLSBROKER_BROKER_HANDSHAKER_TICKET_KEYS_H_

#include <openssl/ssl.h>

#include <vector>

#include "protocol/ticket_keys.h"

namespace tlsbroker {

class TicketSealer {
 public:
  TicketSealer() = default;
  TicketSealer(const TicketSealer&) = delete;
  TicketSealer& operator=(const TicketSealer&) = delete;
  ~TicketSealer() { Wipe(); }

  // Replaces all keys; the first one makes new tickets.
  void Set(supervision::TicketKeys keys);

  // Makes `context` seal and open its tickets with these keys. The sealer has to outlive it.
  void Attach(SSL_CTX* context) const;

  // From now on no ticket can be made for this connection: OpenSSL ends it with the fatal alert
  // internal_error when it has to make one.
  static void Refuse(SSL* ssl);

 private:
  static int Callback(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
                      EVP_MAC_CTX* mac, int encrypt);
  int Seal(unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac) const;
  int Open(const unsigned char* name, const unsigned char* iv, EVP_CIPHER_CTX* cipher,
           EVP_MAC_CTX* mac) const;
  void Wipe();

  std::vector<supervision::TicketKey> keys_;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_TICKET_KEYS_H_
