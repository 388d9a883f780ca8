// SPDX-License-Identifier: Apache-2.0
// Makes keys and self-signed certificates while a test runs, so that none has to be in the
// repository. Test only.

#ifndef TLSBROKER_TESTS_TESTLIB_CERTIFICATE_H_
#define TLSBROKER_TESTS_TESTLIB_CERTIFICATE_H_

#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <string>
#include <utility>

#include "broker/support/openssl_ptr.h"

namespace tlsbroker::testlib {

// With `digest` the key can only be used with that digest.
inline EvpPkeyPtr NewRsaPssKey(int bits, const char* digest = nullptr) {
  const EvpPkeyCtxPtr context(EVP_PKEY_CTX_new_from_name(nullptr, "RSA-PSS", nullptr));
  EVP_PKEY* key = nullptr;
  EVP_PKEY_keygen_init(context.get());
  EVP_PKEY_CTX_set_rsa_keygen_bits(context.get(), bits);
  if (digest != nullptr) {
    const EVP_MD* md = EVP_get_digestbyname(digest);
    EVP_PKEY_CTX_set_rsa_pss_keygen_md(context.get(), md);
    EVP_PKEY_CTX_set_rsa_pss_keygen_mgf1_md(context.get(), md);
    EVP_PKEY_CTX_set_rsa_pss_keygen_saltlen(context.get(), EVP_MD_get_size(md));
  }
  EVP_PKEY_keygen(context.get(), &key);
  return EvpPkeyPtr(key);
}

// "P-256", "P-384", "P-521", "RSA 1024", "RSA 2048", "RSA-PSS 2048", "RSA-PSS 2048 SHA384",
// "ED25519", "ED448".
inline EvpPkeyPtr NewKey(const std::string& kind) {
  if (kind.starts_with("P-")) return EvpPkeyPtr(EVP_EC_gen(kind.c_str()));
  if (kind == "RSA-PSS 2048 SHA384") return NewRsaPssKey(2048, "SHA384");
  if (kind == "RSA-PSS 2048") return NewRsaPssKey(2048);
  if (kind.starts_with("RSA ")) return EvpPkeyPtr(EVP_RSA_gen(std::stoul(kind.substr(4))));
  return EvpPkeyPtr(EVP_PKEY_Q_keygen(nullptr, nullptr, kind.c_str()));
}

// The digest with which such a key signs a certificate.
inline const EVP_MD* CertificateDigest(EVP_PKEY* key) {
  char name[64] = "";
  const bool mandatory = EVP_PKEY_get_default_digest_name(key, name, sizeof(name)) == 2;
  return mandatory ? EVP_get_digestbyname(name) : EVP_sha256();  // nullptr for Edwards curves
}

// A certificate for `name`, valid for an hour, signed with its own key.
inline X509Ptr NewCertificate(EVP_PKEY* key, const std::string& name = "localhost") {
  X509Ptr certificate(X509_new());
  X509_set_version(certificate.get(), X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -60);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
  X509_set_pubkey(certificate.get(), key);
  X509_NAME* subject = X509_get_subject_name(certificate.get());
  const auto* text = reinterpret_cast<const unsigned char*>(name.c_str());
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, text, -1, -1, 0);
  X509_set_issuer_name(certificate.get(), subject);
  X509_EXTENSION* names =
      X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, ("DNS:" + name).c_str());
  X509_add_ext(certificate.get(), names, -1);
  X509_EXTENSION_free(names);
  X509_sign(certificate.get(), key, CertificateDigest(key));
  return certificate;
}

inline std::string TakeText(const BioPtr& bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<size_t>(size));
}

inline std::string Pem(X509* certificate) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(bio.get(), certificate);
  return TakeText(bio);
}

// The key in PKCS#8; encrypted if there is a passphrase.
inline std::string Pem(EVP_PKEY* key, const char* passphrase = nullptr) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_PKCS8PrivateKey(bio.get(), key, passphrase != nullptr ? EVP_aes_256_cbc() : nullptr,
                                nullptr, 0, nullptr, const_cast<char*>(passphrase));
  return TakeText(bio);
}

struct Identity {
  explicit Identity(const std::string& kind)
      : key(NewKey(kind)), certificate(NewCertificate(key.get())) {}
  EvpPkeyPtr key;
  X509Ptr certificate;
};

}  // namespace tlsbroker::testlib

#endif  // TLSBROKER_TESTS_TESTLIB_CERTIFICATE_H_
