// SPDX-License-Identifier: Apache-2.0
// Writes DIRECTORY/TARGET/NAME: each message of the broker's processes with the least, with some
// and with the most that can be in it, by the lists of fields that its encoder uses; and files with
// a key and its chain in several forms.

#include <openssl/pkcs12.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>

#include "protocol/certificate_facts.h"
#include "protocol/request_fields.h"
#include "protocol/signing_fields.h"
#include "protocol/supervision_fields.h"
#include "tests/testlib/certificate.h"
#include "tests/testlib/examples.h"

namespace {

using namespace tlsbroker;
using testlib::Amount;
using testlib::Example;

class Seeds {
 public:
  explicit Seeds(std::filesystem::path root) : root_(std::move(root)) {}

  void Write(const std::string& target, std::string_view message, Amount amount,
             const std::vector<uint8_t>& bytes) {
    Write(target, std::string(message) + "-" + testlib::NameOf(amount), bytes);
  }

  void Write(const std::string& target, const std::string& name,
             const std::vector<uint8_t>& bytes) {
    std::filesystem::create_directories((root_ / target / name).parent_path());
    std::ofstream file(root_ / target / name, std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    if (bytes.empty() || !file.flush()) {
      std::cerr << "make-seeds: " << target << "/" << name << " cannot be written\n";
      good_ = false;
    }
  }
  bool good() const { return good_; }

 private:
  const std::filesystem::path root_;
  bool good_ = true;
};

// The first byte says how many descriptors come along.
template <typename... M>
void WriteControl(Seeds& seeds, Amount amount, const std::variant<M...>* /*of*/) {
  const auto one = [&]<typename T>() {
    const supervision::Message message(Example<T>(amount));
    const supervision::Encoded encoded = supervision::Encode(message);
    std::vector<uint8_t> bytes = encoded.bytes;
    if (!bytes.empty()) bytes.insert(bytes.begin(), static_cast<uint8_t>(encoded.fds.size()));
    seeds.Write("supervision", testlib::NameOf<T>(), amount, bytes);
  };
  (one.template operator()<M>(), ...);
}

template <typename... M>
void WriteRequests(Seeds& seeds, Amount amount) {
  (seeds.Write("request", testlib::NameOf<M>(), amount, request::Encode(Example<M>(amount))), ...);
}

template <typename... M>
void WriteSigning(Seeds& seeds, Amount amount) {
  (seeds.Write("signing", testlib::NameOf<M>(), amount, signing::Encode(Example<M>(amount))), ...);
}

std::string Text(EVP_PKEY* key, auto write) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  write(bio.get(), key);
  return testlib::TakeText(bio);
}

// One iteration, so that the fuzzer tries much in a second.
std::string Encrypted(EVP_PKEY* key) {
  return Text(key, [](BIO* bio, EVP_PKEY* it) {
    PKCS8_PRIV_KEY_INFO* info = EVP_PKEY2PKCS8(it);
    X509_ALGOR* algorithm =
        PKCS5_pbe2_set_iv(EVP_aes_128_cbc(), 1, nullptr, 0, nullptr, NID_hmacWithSHA256);
    X509_SIG* sealed = PKCS8_set0_pbe("secret", 6, info, algorithm);
    PEM_write_bio_PKCS8(bio, sealed);
    X509_SIG_free(sealed);
    PKCS8_PRIV_KEY_INFO_free(info);
  });
}

std::string Archive(const testlib::Identity& identity, const char* passphrase) {
  PKCS12* archive = PKCS12_create(passphrase, nullptr, identity.key.get(),
                                  identity.certificate.get(), nullptr, 0, 0, 1, 1, 0);
  const BioPtr bio(BIO_new(BIO_s_mem()));
  i2d_PKCS12_bio(bio.get(), archive);
  PKCS12_free(archive);
  return testlib::TakeText(bio);
}

// The first byte: 1 for a passphrase, 2 for a file that is named twice.
void WriteKeyFiles(Seeds& seeds) {
  const testlib::Identity ec("P-256");
  const testlib::Identity rsa("RSA 2048");
  const testlib::Identity edwards("ED25519");
  const auto write = [&seeds](const std::string& name, char how, const std::string& file) {
    std::vector<uint8_t> bytes(file.begin(), file.end());
    bytes.insert(bytes.begin(), static_cast<uint8_t>(how));
    seeds.Write("key_file", name, bytes);
  };
  const std::string certificate = testlib::Pem(ec.certificate.get());
  const std::string key = testlib::Pem(ec.key.get());
  write("key-first", 0, key + certificate);
  write("key-last", 2, certificate + testlib::Pem(rsa.certificate.get()) + key);
  write("rsa", 0, testlib::Pem(rsa.key.get()) + testlib::Pem(rsa.certificate.get()));
  write("ed25519", 0, testlib::Pem(edwards.key.get()) + testlib::Pem(edwards.certificate.get()));
  write("traditional", 0, Text(ec.key.get(), [](BIO* bio, EVP_PKEY* it) {
                            PEM_write_bio_PrivateKey_traditional(bio, it, nullptr, nullptr, 0,
                                                                 nullptr, nullptr);
                          }) + certificate);
  write("traditional-encrypted", 1, Text(ec.key.get(), [](BIO* bio, EVP_PKEY* it) {
                                      char word[] = "secret";
                                      PEM_write_bio_PrivateKey_traditional(
                                          bio, it, EVP_aes_128_cbc(), nullptr, 0, nullptr, word);
                                    }) + certificate);
  write("trusted", 0, key + Text(nullptr, [&ec](BIO* bio, EVP_PKEY*) {
                        PEM_write_bio_X509_AUX(bio, ec.certificate.get());
                      }));
  write("encrypted", 1, Encrypted(ec.key.get()) + certificate);
  write("pkcs12", 1, Archive(ec, "secret"));
  write("pkcs12-empty", 2, Archive(ec, ""));
  write("refused/another-key", 0, testlib::Pem(rsa.key.get()) + certificate);
  write("refused/no-key", 0, certificate);
  write("refused/encrypted", 0, Encrypted(ec.key.get()) + certificate);
  write("refused/pkcs12", 0, Archive(ec, "secret"));
}

void WriteFacts(Seeds& seeds) {
  supervision::CertificateFacts facts;
  seeds.Write("certificate_facts", "least", supervision::EncodeFacts(facts));
  facts.chain_pem = "chain";
  facts.key = "EC P-256";
  facts.links = {{"CN=a", 1, 2}, {"CN=b", 3, 4}};
  facts.names = {"a.test", "*.b.test"};
  facts.addresses = {"192.0.2.1"};
  facts.findings = {{true, supervision::CertificateFacts::About::kKey, "wrong", "right"}};
  seeds.Write("certificate_facts", "some", supervision::EncodeFacts(facts));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: make-seeds DIRECTORY\n";
    return 2;
  }
  Seeds seeds(argv[1]);
  for (const Amount amount : testlib::kAmounts) {
    WriteControl(seeds, amount, static_cast<const supervision::Message*>(nullptr));
    WriteRequests<request::Rekey, request::Answer, request::Wrap, request::Dial, request::Opened>(
        seeds, amount);
    WriteSigning<signing::Sign, signing::Signature, signing::Refused>(seeds, amount);
  }
  WriteKeyFiles(seeds);
  WriteFacts(seeds);
  return seeds.good() ? 0 : 1;
}
