// The session ticket keys that all handshakers of the broker share: the supervisor makes them, so a
// ticket of one handshaker resumes at any other, before and after a reload. Runs in the handshaker;
// tickets come from the Internet and are authenticated before anything in them is looked at.

#ifndef TLSBROKER_BROKER_HANDSHAKER_TICKET_KEYS_H_
#define TLSBROKER_BROKER_HANDSHAKER_TICKET_KEYS_H_

#include <openssl/ssl.h>

#include <vector>

#include "protocol/supervision.h"

namespace tlsbroker {

class TicketKeyring {
 public:
  TicketKeyring() = default;
  TicketKeyring(const TicketKeyring&) = delete;
  TicketKeyring& operator=(const TicketKeyring&) = delete;
  ~TicketKeyring() { Wipe(); }

  // Replaces all keys; the first one makes new tickets.
  void Set(supervision::TicketKeys keys);

  // Makes `context` seal and open its tickets with these keys. The keyring has to outlive it.
  void Attach(SSL_CTX* context) const;

  // No ticket can be made for this connection any more: OpenSSL ends it with the fatal alert
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
