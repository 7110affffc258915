# Sourced by the other scripts: makes virtual environments at the first run and keeps them.

# The newest Python here that the project supports; PYTHON=... chooses another.
find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "Python 3.11 or newer with the venv module is needed; set PYTHON=/path/to/python" >&2
  return 1
}

# environment DIR REQUIREMENT...: makes DIR with the requirements, in the versions of constraints.txt.
# uv installs them, since pip takes many times as long; pip does where uv is not to be had or fails, as behind a proxy or an
# index that only pip is set up for.
# The variable `overrides` may name a file of versions that go before those.
environment() {
  local folder=$1 python stamp versions=constraints.txt
  shift
  if [[ -n ${overrides:-} ]]; then
    mkdir -p build
    versions=build/constraints$folder.txt
    grep -vif <(grep -o '^[A-Za-z0-9_.-]*==' "$overrides" | sed 's/^/^/') constraints.txt |
      cat - "$overrides" >"$versions"
  fi
  stamp=$(cat pyproject.toml setup.py t2d_runtime/masks/pamr/pamr.c "$versions" <(echo "$PWD $*") | cksum)
  stamp="$folder/.installed-${stamp%% *}"
  [[ -f $stamp ]] && return
  python=$(find_python)
  echo "installing $* into $folder (once) ..."
  [[ -x $folder/bin/python ]] || "$python" -m venv "$folder"
  install_uv "$python" && .venv-uv/bin/uv pip install --quiet --compile-bytecode --python "$folder/bin/python" -c "$versions" "$@" ||
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -c "$versions" "$@"
  touch "$stamp"
}

# install_uv PYTHON: makes .venv-uv, if it does not exist yet.
install_uv() {
  [[ -x .venv-uv/bin/uv ]] && return
  "$1" -m venv .venv-uv && .venv-uv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
}

# test_bundle: exports the small model's bundle for the tests, if it does not exist yet.
test_bundle() {
  .venv/bin/python tests/conftest.py
}
