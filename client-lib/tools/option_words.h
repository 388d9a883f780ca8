// A subcommand's arguments for getopt_long(3), which wants the command's name first, and what the
// subcommands read from them alike.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_OPTION_WORDS_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_OPTION_WORDS_H_

#include <getopt.h>

#include <charconv>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tlsbroker::tools {

class OptionWords {
 public:
  // Begins anew: one command line at a time (getopt_long(3) has one state in a process).
  OptionWords(const char* command, std::span<char* const> arguments) : command_(command) {
    words_.push_back(command_.data());
    words_.insert(words_.end(), arguments.begin(), arguments.end());
    words_.push_back(nullptr);
    optind = 1;
  }

  // The next option's letter, -1 behind the last one; `optarg` has its value. The first word that
  // is no option ends the options: what follows is a program's.
  int Next(const option* options) {
    return getopt_long(static_cast<int>(words_.size()) - 1, words_.data(), "+", options, &index_);
  }
  // Of the option of the last Next in `options`.
  int index() const { return index_; }

  // The words behind the options.
  std::vector<std::string> Rest() const { return {words_.begin() + optind, words_.end() - 1}; }

 private:
  std::string command_;
  std::vector<char*> words_;
  int index_ = 0;
};

// A whole number and nothing else.
template <typename Number>
bool ParseNumber(std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_OPTION_WORDS_H_
