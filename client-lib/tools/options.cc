// SPDX-License-Identifier: Apache-2.0
#include "client-lib/tools/options.h"

#include <getopt.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <utility>

#include "broker/support/closest.h"
#include "client-lib/tools/command.h"

namespace tlsbroker::tools {
namespace {

constexpr size_t kWidth = 88;       // of the help
constexpr size_t kMostIndent = 26;  // of what an option is for
constexpr char kHelpHelp[] = "this text";

// The text in lines of at most kWidth; `indent` blanks stand before each line but the first.
std::string Wrap(std::string_view text, size_t indent) {
  std::string wrapped;
  size_t column = indent;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    if (column > indent && column + 1 + word.size() > kWidth) {
      wrapped += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      wrapped += ' ';
      ++column;
    }
    wrapped += word;
    column += word.size();
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return wrapped + "\n";
}

std::string Words(const Option& option) {
  return "  --" + option.name + (option.value.empty() ? "" : " " + option.value) + "  ";
}

std::string Help(const CommandLine& line) {
  const Option help{.name = "help", .value = "", .help = kHelpHelp, .needed = "", .take = {}};
  std::vector<Option> options = line.options;
  options.push_back(help);
  size_t indent = 0;
  for (const Option& option : options) {
    if (const size_t size = Words(option).size(); size <= kMostIndent)
      indent = std::max(indent, size);
  }
  std::string text = "usage: tlsbroker " + line.command + " " + line.usage + "\n\n";
  text += Wrap(line.about, 0) + "\n";
  for (const Option& option : options) {
    std::string words = Words(option);
    if (words.size() > indent) words += "\n";
    const size_t used = words.size() > indent ? 0 : words.size();
    text += words + std::string(indent - used, ' ') + Wrap(option.help, indent);
  }
  return text + "\n" + Wrap("Exit status: " + line.exit_status, 0);
}

// For the shell: a word, a tab and what the word is for in each line.
std::string Completion(const CommandLine& line) {
  std::string words = std::string("--help\t") + kHelpHelp + "\n";
  for (const Option& option : line.options) words += "--" + option.name + "\t" + option.help + "\n";
  return words;
}

// The options as getopt_long(3) wants them; for each it returns the number in `line`, and for
// --help the next number after them.
std::vector<option> ForGetopt(const CommandLine& line) {
  std::vector<option> list;
  for (const Option& one : line.options) {
    const int argument = one.value.empty() ? no_argument : required_argument;
    list.push_back({one.name.c_str(), argument, nullptr, static_cast<int>(list.size())});
  }
  list.push_back({"help", no_argument, nullptr, static_cast<int>(list.size())});
  list.push_back({});
  return list;
}

std::optional<std::chrono::milliseconds> ParseTime(std::string_view text) {
  struct Unit {
    std::string_view name;
    int64_t milliseconds;
  };
  // "ms" before "s", which it ends with.
  constexpr std::array kUnits = {Unit{"ms", 1}, Unit{"s", 1'000}, Unit{"m", 60'000},
                                 Unit{"h", 3'600'000}, Unit{"d", 86'400'000}};
  if (text == "0") return std::chrono::milliseconds(0);
  for (const Unit& unit : kUnits) {
    if (!text.ends_with(unit.name)) continue;
    uint32_t number = 0;
    if (!ParseNumber(text.substr(0, text.size() - unit.name.size()), number)) return std::nullopt;
    return std::chrono::milliseconds(number * unit.milliseconds);
  }
  return std::nullopt;
}

std::optional<int> CheckWords(const CommandLine& line, std::vector<std::string> words) {
  if (line.words == nullptr && !words.empty())
    return RefuseCommandLine(line, "unexpected argument \"" + words.front() + "\"");
  if (line.words == nullptr) return std::nullopt;
  if (words.empty()) return RefuseCommandLine(line, line.word + " is missing");
  if (words.size() > line.most_words)
    return RefuseCommandLine(line, "unexpected argument \"" + words[line.most_words] + "\"");
  *line.words = std::move(words);
  return std::nullopt;
}

}  // namespace

Option Flag(std::string name, bool& target, std::string help) {
  return {std::move(name), "", std::move(help), "",
          [&target](const char*) { return target = true; }};
}

Option Text(std::string name, std::string value, std::string& target, std::string help) {
  return {std::move(name), std::move(value), std::move(help), "something",
          [&target](const char* text) {
            target = text;
            return !target.empty();
          }};
}

Option Texts(std::string name, std::string value, std::vector<std::string>& target,
             std::string help) {
  return {std::move(name), std::move(value), std::move(help), "something",
          [&target](const char* text) {
            target.emplace_back(text);
            return !target.back().empty();
          }};
}

Option Time(std::string name, std::chrono::milliseconds& target, std::string help) {
  return {std::move(name), "TIME", std::move(help), "a time such as \"10m\"",
          [&target](const char* text) {
            const auto time = ParseTime(text);
            target = time.value_or(target);
            return time.has_value();
          }};
}

Option TimeOrNever(std::string name, std::optional<std::chrono::milliseconds>& target,
                   std::string help) {
  return {std::move(name), "TIME", std::move(help), "a time such as \"10m\", or \"never\",",
          [&target](const char* text) {
            target = ParseTime(text);
            return target.has_value() || std::string_view(text) == "never";
          }};
}

int RefuseCommandLine(const CommandLine& line, const std::string& why) {
  const char* command = line.command.c_str();
  fprintf(stderr, "tlsbroker %s: %s\nusage: tlsbroker %s %s\n`tlsbroker %s --help` says more.\n",
          command, why.c_str(), command, line.usage.c_str(), command);
  return kExitPermanent;
}

std::string NoOption(const CommandLine& line, const std::string& word) {
  std::vector<std::string> names;
  for (const Option& option : line.options) names.push_back("--" + option.name);
  const std::string closest = Closest(word.substr(0, word.find('=')), names);
  return "no option \"" + word + "\"" +
         (closest.empty() ? "" : "; did you mean \"" + closest + "\"?");
}

std::optional<int> ParseCommandLine(const CommandLine& line, std::span<char* const> arguments) {
  if (arguments.size() == 1 && std::string_view(arguments[0]) == "--complete") {
    fputs(Completion(line).c_str(), stdout);
    return FinishStdout(kExitOk);
  }
  std::string name = "tlsbroker";  // getopt_long(3) wants one first
  std::vector<char*> words = {name.data()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  words.push_back(nullptr);
  const std::vector<option> list = ForGetopt(line);
  optind = 1;
  // "+": getopt_long(3) stops at the first word that is no option. ":": it prints nothing itself.
  for (int c; (c = getopt_long(static_cast<int>(words.size()) - 1, words.data(), "+:h", list.data(),
                               nullptr)) != -1;) {
    const std::string word = words[static_cast<size_t>(optind) - 1];
    const bool letter = optopt > ' ';
    if (c == '?' && letter)
      return RefuseCommandLine(line,
                               std::string("no option \"-") + static_cast<char>(optopt) + "\"");
    if (c == '?') return RefuseCommandLine(line, NoOption(line, word));
    if (c == ':') return RefuseCommandLine(line, word + ": a value is missing");
    if (c == 'h' || static_cast<size_t>(c) == line.options.size()) {
      fputs(Help(line).c_str(), stdout);
      return FinishStdout(kExitOk);
    }
    const Option& option = line.options[static_cast<size_t>(c)];
    if (!option.take(optarg))
      return RefuseCommandLine(
          line, "--" + option.name + " \"" + optarg + "\": " + option.needed + " is needed");
  }
  return CheckWords(line, {words.begin() + optind, words.end() - 1});
}

}  // namespace tlsbroker::tools
