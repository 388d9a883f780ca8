#!/usr/bin/env bash
# Installs what is missing, builds, and runs the test suites: natively, then in guests that have
# kernel TLS. Usage: tests/run.sh [--suite NAME]... [--build DIR]
# Suites: unit isolation integration vm-6.1 vm-latest (vm: both), and on demand sanitize. Exit status 0
# if nothing failed. The last line is "N passed, N failed, N skipped".
set -u
cd "$(dirname "$0")/.." || exit 1

all_suites="unit isolation integration vm-6.1 vm-latest"
suites=""
build=build
while [ $# -gt 0 ]; do
  case $1 in
    --suite)
      case ${2-} in
        vm) suites="$suites vm-6.1 vm-latest" ;;
        unit | isolation | integration | sanitize | vm-6.1 | vm-latest) suites="$suites $2" ;;
        *) echo "run.sh: no suite '${2-}'; there are: $all_suites" >&2; exit 2 ;;
      esac
      shift 2 ;;
    --build) build=${2:?a directory}; shift 2 ;;
    --help) sed -n '2,5s/^# //p' "$0"; exit 0 ;;
    *) echo "run.sh: unknown argument '$1'; try --help" >&2; exit 2 ;;
  esac
done
[ -n "$suites" ] || suites=$all_suites

passed=0 failed=0 skipped=0
failures=""
started=$SECONDS
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

say() { printf '\n== %s (%d:%02d)\n' "$1" $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60)); }

install_packages() {
  local missing=() package
  while read -r package; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done < <(cat "$@")
  [ ${#missing[@]} -eq 0 ] && return 0
  say "installing ${missing[*]}"
  local as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -q >"$logs/apt" 2>&1
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -q -y --no-install-recommends \
    "${missing[@]}" >>"$logs/apt" 2>&1 || { tail -n 20 "$logs/apt"; exit 1; }
}

build_tree() { # DIRECTORY [meson options]
  local directory=$1
  shift
  say "building $directory"
  [ -f "$directory/build.ninja" ] || meson setup "$@" "$directory" >"$logs/setup" 2>&1 ||
    { tail -n 20 "$logs/setup"; exit 1; }
  ninja -C "$directory" >"$logs/build" 2>&1 || { grep -E 'error|FAILED' "$logs/build" | head -n 40; exit 1; }
}

count() { # NAME PASSED FAILED SKIPPED
  passed=$((passed + $2)) failed=$((failed + $3)) skipped=$((skipped + $4))
  [ "$3" -eq 0 ] || failures="$failures $1"
  printf '   %-40s %4d passed %4d failed %4d skipped\n' "$1" "$2" "$3" "$4"
}

# The counts of a GoogleTest program or of run_suite.py from its output.
count_output() { # NAME STATUS FILE
  local p f s line
  if line=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$3" | tail -n 1) && [ -n "$line" ]; then
    read -r p _ f _ s _ <<<"$line"
  else
    p=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$3" | tail -n 1)
    f=$(sed -n 's/^\[  FAILED  \] \([0-9]*\) test.*/\1/p' "$3" | tail -n 1)
    s=$(sed -n 's/^\[  SKIPPED \] \([0-9]*\) test.*/\1/p' "$3" | tail -n 1)
  fi
  p=${p:-0} f=${f:-0} s=${s:-0}
  # Status 77: all were skipped. Any other one with no failed test is a crash or a time limit.
  if [ "$2" -ne 0 ] && [ "$2" -ne 77 ] && [ "$f" -eq 0 ]; then f=1; fi
  [ "$f" -eq 0 ] || { echo "--- $1"; tail -n 60 "$3"; echo "---"; }
  count "$1" "$p" "$f" "$s"
}

run_one() { # NAME COMMAND...
  local name=$1 log status=0
  shift
  log=$logs/$(printf %s "$name" | tr -c 'a-zA-Z0-9.\n' _)
  timeout 900 "$@" >"$log" 2>&1 </dev/null || status=$?
  count_output "$name" "$status" "$log"
}

run_programs() { # SUITE BUILD
  local program
  for program in "$2/tests/$1/$1"-*; do
    [ -f "$program" ] && [ -x "$program" ] && run_one "$(basename "$program")" "$program"
  done
}

run_python() { # NAME FOLDER
  [ -n "$(find "$2" -maxdepth 1 -name 'test_*.py' -print -quit 2>/dev/null)" ] || return 0
  run_one "$1" /usr/bin/python3 tests/testlib/run_suite.py "$2"
}

run_guest() { # NAME KERNEL BOOT-OPTIONS... -- COMMAND...
  local name=$1 kernel=$2
  shift 2
  run_one "$name" tests/vm/boot --kernel "$kernel" --build "$build" --mem 3000 --timeout 880 "$@"
}

guest_suite() { # KERNEL
  local suite="/usr/bin/python3 tests/testlib/run_suite.py" program part module
  for program in "$build"/tests/interop/interop-*; do
    [ -f "$program" ] && [ -x "$program" ] && run_guest "$1 $(basename "$program")" "$1" -- "$program"
  done
  # shellcheck disable=SC2086
  {
    for part in probe one_segment wire; do
      run_guest "$1 $part" "$1" -- $suite tests/interop $part
    done
    [ ! -d tests/integration/direct ] || run_guest "$1 direct" "$1" -- $suite tests/integration/direct
    run_guest "$1 quickstart" "$1" -- tests/testlib/quickstart_check
    for module in tls chacha20poly1305; do
      run_guest "$1 probe without $module" "$1" --without-module $module \
        --env TLSBROKER_WITHOUT_MODULE=$module -- $suite tests/interop probe
    done
  }
}

install_packages tests/packages tests/vm/packages
build=$(realpath -m "$build")
build_tree "$build"
export TLSBROKER_BUILD="$build"

for suite in $suites; do
  say "$suite"
  case $suite in
    unit) run_programs unit "$build" ;;
    isolation)
      run_programs isolation "$build"
      run_python isolation tests/isolation ;;
    integration) run_python integration tests/integration ;;
    sanitize)
      build_tree "$build-asan" -Db_sanitize=address,undefined -Db_lundef=false -Doptimization=1 -Dexamples=false
      TLSBROKER_BUILD="$build-asan"
      run_programs unit "$build-asan"
      run_python "integration (sanitizers)" tests/integration
      TLSBROKER_BUILD="$build" ;;
    vm-*) guest_suite "${suite#vm-}" ;;
  esac
done

[ -z "$failures" ] || printf '\nfailed:%s\n' "$failures"
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]
