#compdef tlsbroker
# SPDX-License-Identifier: Apache-2.0
# Completion for zsh(1): the program itself says which commands and options it has. In each line is a word, and behind a tab what
# the word is for.
_tlsbroker() {
  local -a lines
  if (( CURRENT == 2 )); then
    lines=(${(f)"$(${(Q)words[1]} --complete 2>/dev/null)"})
  elif [[ $words[CURRENT] == -* ]]; then
    lines=(${(f)"$(${(Q)words[1]} ${(Q)words[2]} --complete 2>/dev/null)"})
  fi
  # As _describe wants it: a colon between the two, and a backslash before every other one.
  lines=(${${lines//:/\\:}/$'\t'/:})
  if (( $#lines )); then
    _describe -V tlsbroker lines
  else
    _files
  fi
}
_tlsbroker "$@"
