// SPDX-License-Identifier: Apache-2.0
// The command line of a subcommand: one list of its options, by which it is read, and from which
// its help, its errors and its completion are made. Runs with its caller's rights.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_OPTIONS_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_OPTIONS_H_

#include <charconv>
#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tlsbroker::tools {

// A whole number and nothing else.
template <typename Number>
bool ParseNumber(std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

struct Option {
  std::string name;   // without the dashes
  std::string value;  // what its value is called in the help; empty: it has none
  std::string help;   // Wrap() breaks it into lines
  std::string needed;
  // Takes the value; false if it is not what is needed.
  std::function<bool(const char* value)> take;
};

// The target of an option has to outlive the list, and has to have its default already.
Option Flag(std::string name, bool& target, std::string help);
Option Text(std::string name, std::string value, std::string& target, std::string help);
// May be repeated.
Option Texts(std::string name, std::string value, std::vector<std::string>& target,
             std::string help);
// A number with ms, s, m, h or d behind it, or 0.
Option Time(std::string name, std::chrono::milliseconds& target, std::string help);
// The same, or "never", which is nullopt.
Option TimeOrNever(std::string name, std::optional<std::chrono::milliseconds>& target,
                   std::string help);
template <typename Integer>
Option Number(std::string name, std::string value, Integer& target, Integer least,
              std::string help) {
  return {std::move(name), std::move(value), std::move(help),
          "a number from " + std::to_string(least) + " on", [&target, least](const char* text) {
            return ParseNumber(text, target) && target >= least;
          }};
}

struct CommandLine {
  std::string command;
  std::string usage;  // behind the command's name
  std::string about;
  std::string exit_status;
  std::vector<Option> options;
  // The words behind the options. The first one ends the options: what follows belongs to a
  // program. Null where a command takes no words.
  std::vector<std::string>* words = nullptr;
  std::string word;  // what the help calls the first word, which there has to be
  size_t most_words = SIZE_MAX;
};

// The exit status if the command is not to run: after --help, or after an error that was said on
// stderr. Must not run in two threads at once (getopt_long(3) has one state in a process).
std::optional<int> ParseCommandLine(const CommandLine& line, std::span<char* const> arguments);

// What several commands say in the same words.
inline constexpr char kSocketHelp[] =
    "attach to a running broker: SERVICE.sock in its runtime directory; without it the broker has "
    "started this command";
inline constexpr char kServiceHelp[] = "the service, if the broker passed several";
inline constexpr char kRuntimeDirHelp[] = "of the broker, \"/run/tlsbroker\" otherwise";
inline constexpr char kChainExitStatus[] =
    "0; 100 usage, or an error that lasts; 111 an error that may pass.";

// Says on stderr what is wrong with the command line. The exit status.
int RefuseCommandLine(const CommandLine& line, const std::string& why);

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_OPTIONS_H_
