# SPDX-License-Identifier: Apache-2.0
# Completion for bash(1): the program itself says which commands and options it has. In each line is a word, and behind a tab what
# the word is for.
_tlsbroker() {
  local word=${COMP_WORDS[COMP_CWORD]} lines=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    lines=$("${COMP_WORDS[0]}" --complete 2>/dev/null)
  elif [[ $word == -* ]]; then
    lines=$("${COMP_WORDS[0]}" "${COMP_WORDS[1]}" --complete 2>/dev/null)
  fi
  mapfile -t COMPREPLY < <(compgen -W "$(cut -f 1 <<<"$lines")" -- "$word")
}
complete -o default -F _tlsbroker tlsbroker
