#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs packages that are missing, builds, and runs the test suites: natively, then in guests that have kernel TLS. Usage:
# tests/run.sh [--suite NAME]... [--build DIR] Suites: unit isolation integration sanitize vm-6.1 vm-latest (vm: both), and, only
# if they are named, programs and packages. The exit status is 0 if nothing failed. The last line is "N passed, N failed, N skipped".
set -u
cd "$(dirname "$0")/.." || exit 1

all_suites="unit isolation integration sanitize vm-6.1 vm-latest"
named_suites="programs packages" # that run only if they are named
suites=""
build=build
while [ $# -gt 0 ]; do
  case $1 in
    --suite)
      case ${2-} in
        vm) suites="$suites vm-6.1 vm-latest" ;;
        unit | isolation | integration | sanitize | vm-6.1 | vm-latest | programs | packages) suites="$suites $2" ;;
        *) echo "run.sh: no suite '${2-}'; there are: $all_suites $named_suites" >&2; exit 2 ;;
      esac
      shift 2 ;;
    --build) build=${2:?a directory}; shift 2 ;;
    --help) sed -n '3,6s/^# //p' "$0"; exit 0 ;;
    *) echo "run.sh: unknown argument '$1'; try --help" >&2; exit 2 ;;
  esac
done
[ -n "$suites" ] || suites=$all_suites

# The paths of the workers' programs lead through the checkout.
if [ "$(id -u)" -eq 0 ] && ! setpriv --reuid=65534 --regid=65534 --clear-groups test -r "$PWD/meson.build"; then
  echo "run.sh: workers are other users, and cannot reach $PWD: put the checkout elsewhere, or" \
    "give others x on each directory that leads to it" >&2
  exit 2
fi

started=$SECONDS
logs=$(mktemp -d)
leave() {
  local job
  for job in $(jobs -p); do kill -- "-$job" || pkill -P "$job"; done 2>/dev/null
  rm -rf "$logs"
}
trap leave EXIT
: >"$logs/counts"

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
  # Only the programs are needed, not the services: this file keeps every service from being started (invoke-rc.d(8) asks it).
  local policy=/usr/sbin/policy-rc.d ours="" status=0
  if [ ! -e "$policy" ]; then
    ours=1
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
  fi
  "${as_root[@]}" apt-get update -q >"$logs/apt" 2>&1
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -q -y --no-install-recommends \
    "${missing[@]}" >>"$logs/apt" 2>&1 || status=1
  [ -z "$ours" ] || "${as_root[@]}" rm -f "$policy"
  [ "$status" -eq 0 ] || { tail -n 20 "$logs/apt"; exit 1; }
}

build_tree() { # DIRECTORY [meson options]
  local directory=$1
  shift
  say "building $directory"
  [ -f "$directory/build.ninja" ] || meson setup "$@" "$directory" >"$logs/setup" 2>&1 ||
    { tail -n 20 "$logs/setup"; return 1; }
  ninja -C "$directory" >"$logs/build" 2>&1 || { grep -E 'error|FAILED' "$logs/build" | head -n 40; return 1; }
}

count() { # NAME PASSED FAILED SKIPPED
  echo "$2 $3 $4 $1" >>"$logs/counts"
  printf '   %-40s %4d passed %4d failed %4d skipped   (%d:%02d)\n' "$1" "$2" "$3" "$4" \
    $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60))
}

# Counts the results that GoogleTest programs, and folders that run_suite.py runs, report in an output.
count_output() { # NAME STATUS FILE
  local p f s
  read -r p f s < <(awk '
    /^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { p += $1; f += $3; s += $5 }
    /^\[  PASSED  \] [0-9]+ test/ { p += $4 }
    /^\[  FAILED  \] [0-9]+ test/ { f += $4 }
    /^\[  SKIPPED \] [0-9]+ test/ { s += $4 }
    END { print p + 0, f + 0, s + 0 }' "$3")
  # Status 77: all tests were skipped. Any other status without a failed test means a crash or a time limit.
  if [ "$2" -ne 0 ] && [ "$2" -ne 77 ] && [ "$f" -eq 0 ]; then f=1; fi
  [ "$f" -eq 0 ] || { echo "--- $1"; tail -n 250 "$3"; echo "---"; failures "$1" "$3" >>"$logs/failures"; }
  count "$1" "$p" "$f" "$s"
}

# The tests that failed in an output, and why, in at most 40 lines each: repeated at the end of the log, where people look first.
failures() { # NAME FILE
  printf '\n--- %s\n' "$1"
  awk '
    function over(  i) {
      for (i = 1; i <= n; i++) if (n <= 40 || i <= 16 || i > n - 24) print line[i]; else if (i == 17) print "  [...]"
      said += n; n = on = 0
    }
    /^(FAIL|ERROR): / { over(); on = 1 }            # of unittest, up to a ruler that is not its first
    /^(=====|-----)/ && on && n > 1 { over() }
    /^\[ RUN      \]/ { n = 0; on = 1 }             # of GoogleTest: the whole test, if it fails
    /^\[       OK \]/ { n = on = 0 }
    on { line[++n] = $0 }
    /^\[  FAILED  \] .*\)$/ { over() }
    /^FAILED: / { print; said++ }
    { last[NR % 20] = $0 }
    END { over(); if (!said) for (i = NR - 19; i <= NR; i++) if (i > 0) print last[i % 20] }' "$2"
}

log_name() { printf %s "$1" | tr -c 'a-zA-Z0-9.\n' _; } # NAME

run_one() { # NAME COMMAND...
  local name=$1 log status=0
  shift
  log=$logs/$(log_name "$name")
  timeout 900 "$@" >"$log" 2>&1 </dev/null || status=$?
  count_output "$name" "$status" "$log"
}

# Natively, tests wait most of the time: three run at once.
jobs=3

run_programs() { # SUITE BUILD
  local programs=("$2/tests/$1/$1"-*) running=0 number program
  # Starts with the last program: one that waits longest, for workers to be started again, is at the end of the list.
  for ((number = ${#programs[@]} - 1; number >= 0; number--)); do
    program=${programs[number]}
    if [ ! -f "$program" ] || [ ! -x "$program" ]; then continue; fi
    [ $running -lt $jobs ] || { wait -n; running=$((running - 1)); }
    run_one "$(basename "$program")" "$program" &
    running=$((running + 1))
  done
  wait
}

replay_corpora() { # BUILD
  local program target folders
  for program in "$1"/tests/fuzz/fuzz-*; do
    target=${program##*/fuzz-}
    if [ ! -f "$program" ] || [ ! -x "$program" ]; then continue; fi
    # The inputs that no encoder of ours writes, and those that our encoders write.
    mapfile -t folders < <(ls -d "tests/fuzz/corpus/$target" "$1/tests/fuzz/seeds/$target" 2>/dev/null)
    run_one "fuzz-$target" "$program" "${folders[@]}"
  done
}

run_python() { # NAME FOLDER
  [ -n "$(find "$2" -maxdepth 1 -name 'test_*.py' -print -quit 2>/dev/null)" ] || return 0
  run_one "$1" /usr/bin/python3 tests/testlib/run_suite.py --jobs $jobs "$2"
}

# Runs one guest, with one processor: two would wait for each other most of the time. The guest's suites are counted as each ends.
run_guest() { # KERNEL LOG-NAME [WITHOUT-MODULE]
  local kernel=$1 whole=$logs/$2 without=${3-} name="" line status log=""
  local options=()
  [ -z "$without" ] || options=(--without-module "$without" --env "TLSBROKER_WITHOUT_MODULE=$without")
  while IFS= read -r line; do
    case $line in
      "@@ begin "*) name=${line#@@ begin } log=$logs/$2.$name ; : >"$log" ;;
      "@@ end "*)
        status=${line##* }
        count_output "$kernel${without:+ without $without}: $name" "$status" "$log"
        name="" log="" ;;
      *) printf '%s\n' "$line" >>"${log:-$whole}" ;;
    esac
  done < <(tests/vm/boot --kernel "$kernel" --smp 1 --build "$build" --mem 3000 --timeout 3000 "${options[@]}" -- \
    tests/testlib/guest_suites "$without" 2>&1; echo "@@ over $?")
  # The last line is "@@ over STATUS"; STATUS is 0 if the guest came to its end.
  tail -n 1 "$whole" | grep -qx '@@ over 0' && [ -z "$name" ] && return
  cat "$whole" ${log:+"$log"} >"$whole.all"
  count_output "$kernel${without:+ without $without}: ${name:-guest}" 1 "$whole.all"
}

guest_suite() { # KERNEL
  run_guest "$1" "vm-$1"
  run_guest "$1" "vm-$1-tls" tls
  run_guest "$1" "vm-$1-chacha" chacha20poly1305
}

native=() guests=()
for suite in $suites; do
  case $suite in
    vm-*) guests+=("${suite#vm-}") ;;
    *) native+=("$suite") ;;
  esac
done

packages=(tests/packages tests/vm/packages)
# A gigabyte of other people's programs, which no other suite needs.
case " $suites " in *" programs "*) packages+=(tests/programs/packages) ;; esac
case " $suites " in *" packages "*) packages+=(tests/packaging/packages) ;; esac
install_packages "${packages[@]}"
# Fetches in the background, so that nothing waits for the network later. A fetch that fails here is tried again, and reported,
# when a guest starts.
set -m # a process group, so that all of it can be ended
for kernel in "${guests[@]}"; do tests/vm/boot --kernel "$kernel" --fetch; done >"$logs/fetch" 2>&1 &
set +m
build=$(realpath -m "$build")
# Before anything is built: they need a minute, and say most of what a reader would.
case " $suites " in
  *" unit "*) say "style"; for style in tests/style/*; do run_one "style-$(basename "$style")" "$style"; done ;;
esac
# Warnings are errors here. The same code, with less information for debuggers: that saves a tenth of the compile time.
debug_options=(-Dwerror=true -Ddebug=false -Dcpp_args=-g1 -Dc_args=-g1)
# The packages are built in a tree of their own.
[ "$suites" = " packages" ] || build_tree "$build" "${debug_options[@]}" || exit 1
export TLSBROKER_BUILD="$build"

native_suite() { # SUITE
  case $1 in
    unit)
      run_programs unit "$build"
      replay_corpora "$build"
      run_python "the guests' kernels" tests/vm ;;
    isolation)
      run_programs isolation "$build"
      run_python isolation tests/isolation ;;
    integration) run_python integration tests/integration ;;
    programs)
      # One file after the other: some of them look how long a program takes.
      for file in tests/programs/test_*.py; do
        run_one "${file#tests/}" /usr/bin/python3 tests/testlib/run_suite.py tests/programs "${file##*/}"
        grep '^|' "$logs/$(log_name "${file#tests/}")" # its tables
      done ;;
    packages)
      # The build takes longer than the time limit of tests where processors are slow or busy.
      if ! broker/packaging/build-deb --output "$logs/packages" >"$logs/build-deb" 2>&1; then
        tail -n 40 "$logs/build-deb"
        count build-deb 0 1 0
        return
      fi
      TLSBROKER_PACKAGES="$logs/packages" run_python packages tests/packaging ;;
    sanitize)
      # Not optimized: that halves the time to build, and nothing is optimized away that the sanitizers would find. Several files
      # are compiled at once, which halves the rest; the build above compiles them one by one, as people do who work on them.
      build_tree "$build-asan" -Db_sanitize=address,undefined -Db_lundef=false -Doptimization=0 \
        "${debug_options[@]}" -Dunity=on -Dunity_size=8 "-Dcpp_args=-g1 -Wno-subobject-linkage" || { count "building $build-asan" 0 1 0; return; }
      export TLSBROKER_BUILD="$build-asan"
      run_programs unit "$build-asan"
      replay_corpora "$build-asan"
      run_programs isolation "$build-asan"
      run_python "isolation (sanitizers)" tests/isolation
      run_python "integration (sanitizers)" tests/integration
      export TLSBROKER_BUILD="$build" ;;
  esac
}

for suite in "${native[@]}"; do
  say "$suite"
  native_suite "$suite"
done

# The guests run side by side: each has one processor.
if [ ${#guests[@]} -gt 0 ]; then
  say "guests: ${guests[*]}"
  wait # for the kernels
  set -m # a process group for each, so that all of it can be ended
  for kernel in "${guests[@]}"; do guest_suite "$kernel" & done
  set +m
  wait
fi

read -r passed failed skipped < <(awk '{ p += $1; f += $2; s += $3 } END { print p + 0, f + 0, s + 0 }' "$logs/counts")
awk '$2 > 0 { $1 = $2 = $3 = ""; print "failed:" $0 }' "$logs/counts"
[ ! -f "$logs/failures" ] || cat "$logs/failures"
say "done"
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]
