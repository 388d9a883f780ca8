// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/config_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/supervisor/config_section.h"
#include "broker/supervisor/config_values.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {
namespace {

Position StartOf(const std::string& path) {
  return {1, 1, std::make_shared<const std::string>(path)};
}

void Expand(toml::node& node, Diagnostics& diagnostics) {
  if (toml::table* table = node.as_table()) {
    for (auto&& [key, child] : *table) Expand(child, diagnostics);
  } else if (toml::array* array = node.as_array()) {
    for (toml::node& child : *array) Expand(child, diagnostics);
  } else if (auto* text = node.as_string()) {
    auto value = ExpandVariables(text->get(),
                                 [](const std::string& name) { return std::getenv(name.c_str()); });
    if (const auto* complaint = std::get_if<Complaint>(&value)) {
      diagnostics.Error(PositionOf(node.source()), complaint->wrong, complaint->right);
    } else {
      text->get() = std::get<std::string>(std::move(value));
    }
  }
}

Complaint CannotBeRead() {
  return {std::string("cannot be read: ") + std::strerror(errno), "a readable TOML file is needed"};
}

// What is said of a file in conf.d, which nobody has named.
Complaint CannotBeReadThere(const std::string& path) {
  struct stat status {};
  if (errno == ENOENT && lstat(path.c_str(), &status) == 0)
    return {"is a link to something that does not exist", "remove it, or let it name a file"};
  Complaint complaint = CannotBeRead();
  complaint.right = absl::StrCat("make it readable for uid ", geteuid(),
                                 ", or give it a name that does not end in .toml");
  return complaint;
}

// Nobody has named conf.d and what is in it, and its commands are run: whoever may write there must
// be root, this user, or who owns the file that was named.
std::optional<Complaint> MayBeOfOthers(const struct stat& status, const std::string& main) {
  struct stat named {};
  const bool of_main_s_owner =
      stat(main.c_str(), &named) == 0 && S_ISREG(named.st_mode) && named.st_uid == status.st_uid;
  if (status.st_uid != 0 && status.st_uid != geteuid() && !of_main_s_owner) {
    return Complaint{absl::StrCat("belongs to uid ", status.st_uid),
                     "chown it to root, or remove it"};
  }
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) == 0) return std::nullopt;
  return Complaint{"can be written by others than its owner", "chmod go-w"};
}

// The main file may be a pipe. In conf.d something that is no file is a mistake, and could hang.
Parsed<std::string> ReadText(const std::string& path, const std::string& main_file) {
  const bool main = path == main_file;
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | (main ? 0 : O_NONBLOCK)));
  if (!fd) return main ? CannotBeRead() : CannotBeReadThere(path);
  struct stat status {};
  if (fstat(fd.get(), &status) != 0) return CannotBeRead();
  if (!main && !S_ISREG(status.st_mode)) {
    return Complaint{S_ISDIR(status.st_mode) ? "is a directory" : "is no regular file",
                     "a TOML file is needed, or a name that does not end in .toml"};
  }
  if (!main) {
    if (auto complaint = MayBeOfOthers(status, main_file)) return *std::move(complaint);
  }
  std::string text;
  std::array<char, 65536> part;
  for (;;) {
    const ssize_t size = read(fd.get(), part.data(), part.size());
    if (size < 0) return CannotBeRead();
    if (size == 0) return text;
    text.append(part.data(), static_cast<size_t>(size));
  }
}

// The files in conf.d, in the order of their names.
std::vector<std::string> List(const std::string& directory, Diagnostics& diagnostics) {
  std::vector<std::string> paths;
  DIR* open = opendir(directory.c_str());
  if (open == nullptr) {
    const int error = errno;
    struct stat status {};
    const bool there = lstat(directory.c_str(), &status) == 0;
    if (there || (errno != ENOENT && errno != ENOTDIR)) {
      diagnostics.Error(StartOf(directory), std::string("cannot be read: ") + std::strerror(error),
                        "a directory that the broker may read is needed, or none");
    }
    return paths;
  }
  struct stat status {};
  std::optional<Complaint> complaint;
  if (fstat(dirfd(open), &status) == 0) complaint = MayBeOfOthers(status, diagnostics.file());
  while (const dirent* entry = complaint ? nullptr : readdir(open)) {
    const std::string_view name(entry->d_name);
    if (name.ends_with(".toml") && !name.starts_with('.'))
      paths.push_back(absl::StrCat(directory, "/", entry->d_name));
  }
  closedir(open);
  if (complaint) diagnostics.Error(StartOf(directory), complaint->wrong, complaint->right);
  std::ranges::sort(paths);
  return paths;
}

// A table that another file may have a part of: [service.web] and [service.web.worker] may be in
// two files, as they are two tables of one file.
bool HasValues(const toml::table& table) {
  return std::ranges::any_of(table, [](const auto& entry) {
    const toml::table* child = entry.second.as_table();
    return child == nullptr || child->is_inline();
  });
}

class Merger {
 public:
  explicit Merger(Diagnostics& diagnostics) : diagnostics_(diagnostics) {}

  // [broker] may be in several files, as nobody would know which one has it; so may the tables that
  // no header names, such as "service" itself.
  void Merge(toml::table& from, toml::table& into, const std::string& title) {
    for (auto&& entry : from) {
      const toml::key& key = entry.first;
      toml::node& node = entry.second;
      const auto old = into.find(key.str());
      if (old == into.end()) {
        node.visit([&](auto& value) { into.insert(key, std::move(value)); });
        continue;
      }
      const std::string name = title + (title.empty() ? "" : ".") + std::string(key.str());
      toml::table* more = node.as_table();
      toml::table* table = old->second.as_table();
      const bool tables = more != nullptr && table != nullptr;
      if (tables && (title.empty() || !HasValues(*more) || !HasValues(*table))) {
        Merge(*more, *table, name);
      } else {
        const std::string what = tables ? "[" + name + "]" : "'" + name + "'";
        const auto& source = tables ? table->source() : old->first.source();
        diagnostics_.Error(
            PositionOf(tables ? more->source() : key.source()),
            what + " is given twice, also at " + diagnostics_.Where(PositionOf(source)),
            "leave out one of them");
      }
    }
  }

 private:
  Diagnostics& diagnostics_;
};

}  // namespace

toml::table ParseTables(std::string_view text, std::string_view file, Diagnostics& diagnostics) {
  try {
    toml::table root = toml::parse(text, file);
    Expand(root, diagnostics);
    return root;
  } catch (const toml::parse_error& error) {
    diagnostics.Error(PositionOf(error.source()), error.description(), "TOML 1.0 is needed");
    return {};
  }
}

toml::table ReadTables(std::vector<std::string>& files, Diagnostics& diagnostics) {
  const std::string& main = diagnostics.file();
  const std::string directory = main.substr(0, main.rfind('/') + 1) + "conf.d";  // npos + 1 is 0
  files = List(directory, diagnostics);
  files.insert(files.begin(), main);
  toml::table root;
  for (const std::string& path : files) {
    const bool is_main = &path == &files.front();
    const auto text = ReadText(path, main);
    if (const auto* complaint = std::get_if<Complaint>(&text)) {
      diagnostics.Error(is_main ? Position() : StartOf(path), complaint->wrong, complaint->right);
      continue;
    }
    toml::table tables = ParseTables(std::get<std::string>(text), is_main ? "" : path, diagnostics);
    if (is_main) {
      root = std::move(tables);
    } else {
      Merger(diagnostics).Merge(tables, root, "");
    }
  }
  return root;
}

}  // namespace tlsbroker::supervisor
