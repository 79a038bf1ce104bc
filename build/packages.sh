# Finds out which Debian packages are missing, and installs them if this user may. Sourced by `run` and `tests/run`.
#
# If no package is missing, this needs no root. All messages go to standard error.
# shellcheck shell=bash

has() { command -v "$1" >/dev/null 2>&1; }

# The libraries that are compiled in (librdkafka, SQLite, zlib, zstd) need compilers for C and C++ with headers, and make.
# The system's OpenSSL is linked; its build script finds it through pkg-config.
compiles_c() { echo '#include <stdlib.h>' | cc -x c -fsyntax-only - 2>/dev/null; }
compiles_cxx() { echo '#include <string>' | c++ -x c++ -fsyntax-only - 2>/dev/null; }
has_compilers() { compiles_c && compiles_cxx && has make; }
has_openssl() { has pkg-config && pkg-config --exists 'openssl >= 3.0'; }
can_build() { has_compilers && has_openssl; }

# Prints one package a line.
missing_to_build() {
  has_compilers || echo build-essential
  has pkg-config || echo pkg-config
  has_openssl || echo libssl-dev
  # Without clang, a connection takes more memory: see build/cc.
  has clang || echo clang
}

# install_packages PACKAGE..: installs them as root, or with sudo when sudo asks for no password. Otherwise prints the
# command that installs them, and fails.
install_packages() {
  local as_root=()
  if [[ $# -eq 0 ]]; then return; fi
  if [[ $EUID -ne 0 ]]; then as_root=(sudo -n); fi
  echo "== missing packages: $*" >&2
  if has apt-get && has "${as_root[0]:-apt-get}" &&
    "${as_root[@]}" apt-get update -q >&2 &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" >&2; then
    return
  fi
  echo "not installed. On Debian, run this as root: apt-get update && apt-get install -y $*" >&2
  return 1
}

# Fails with a message when there is no Rust that is new enough (`rust-version` in Cargo.toml). Finds a Rust that rustup
# installed and that is not in PATH yet.
require_rust() {
  local needed found
  # shellcheck disable=SC1091
  if ! has cargo && [[ -r ${CARGO_HOME:-$HOME/.cargo}/env ]]; then . "${CARGO_HOME:-$HOME/.cargo}/env"; fi
  needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  if ! has cargo; then
    echo "cargo is missing: install Rust $needed or later as https://rustup.rs says" >&2
    return 1
  fi
  found=$(cargo --version | cut -d ' ' -f 2)
  if [[ $(printf '%s\n' "$needed" "$found" | sort -V | head -n 1) != "$needed" ]]; then
    echo "cargo is $found: install Rust $needed or later as https://rustup.rs says, or run: rustup update" >&2
    return 1
  fi
}
