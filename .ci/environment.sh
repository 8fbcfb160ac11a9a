# Shared by tests/run.sh, examples/quickstart.sh and .ci/run: a Python environment that holds this project.
# Source it, then call `prepare EXTRAS`; afterwards $python is the interpreter to use and $root the repository.
#
#   VIRTUAL_ENV  the environment that is active is used; without one, .venv in the repository is made or reused
#   PYTHON       the interpreter that .venv is made with (default: the newest python3 that is new enough)

tested_torch="2.13.0"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 1; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# Whether $1 finds a torch that the project can use, without loading it.
has_torch() {
    "$1" - 2>/dev/null <<'PY'
import importlib.metadata, re, sys
found = re.match(r"(\d+)\.(\d+)", importlib.metadata.version("torch"))
sys.exit(not ((2, 8) <= tuple(map(int, found.groups())) < (3, 0)))
PY
}

# Runs a command that is silent for minutes, and says now and then that it is still at work.
patiently() {
    local what="$1" begun=$SECONDS status=0 ticker
    shift
    ( while sleep 30 && kill -0 $$ 2>/dev/null; do say "still $what, $((SECONDS - begun)) s"; done ) &
    ticker=$!
    "$@" || status=$?
    kill "$ticker" 2>/dev/null || true
    wait "$ticker" 2>/dev/null || true
    return "$status"
}

find_interpreter() {
    if [ -n "${PYTHON:-}" ]; then
        command -v "$PYTHON" >/dev/null || fail "PYTHON=$PYTHON: no such program"
        new_enough "$PYTHON" || fail "PYTHON=$PYTHON is $("$PYTHON" --version 2>&1); Python 3.11 or newer is needed"
        echo "$PYTHON"
        return
    fi
    local name
    for name in python3 python python3.13 python3.12 python3.11; do
        if command -v "$name" >/dev/null && new_enough "$name"; then
            echo "$name"
            return
        fi
    done
    fail "no Python 3.11 or newer on the PATH; install one, or name it: PYTHON=/path/to/python bash $0"
}

find_environment() {
    local home="${VIRTUAL_ENV:-$root/.venv}" base path
    for path in "$home/bin/python" "$home/Scripts/python.exe"; do
        if [ -x "$path" ]; then
            new_enough "$path" || fail "$home holds $("$path" --version 2>&1); Python 3.11 or newer is needed"
            echo "$path"
            return
        fi
    done
    [ -z "${VIRTUAL_ENV:-}" ] || fail "VIRTUAL_ENV=$home holds no Python"
    base="$(find_interpreter)" || exit 1
    local options=()
    if has_torch "$base"; then
        say "making .venv, which reuses the torch of $base"
        options=(--system-site-packages)
    else
        say "making .venv with $("$base" --version 2>&1)"
    fi
    "$base" -m venv ${options[@]+"${options[@]}"} "$home" >&2 ||
        fail "$base cannot make a virtual environment; on Debian and Ubuntu, install the package python3-venv"
    [ -x "$home/bin/python" ] && echo "$home/bin/python" || echo "$home/Scripts/python.exe"
}

# Installed from this folder, with these extras, since pyproject.toml or .build/setup.py last changed?
wanted_stamp() {
    "$python" - "$root" "$1" <<'PY'
import hashlib, pathlib, sys
root, extras = sys.argv[1:]
content = b"".join((pathlib.Path(root) / name).read_bytes() for name in ("pyproject.toml", ".build/setup.py"))
print(hashlib.sha256(content + root.encode() + extras.encode()).hexdigest())
PY
}

# prepare EXTRAS: sets $python to an interpreter in which this project is installed, editable, with EXTRAS.
prepare() {
    local extras="$1" stamp wanted
    python="$(find_environment)" || exit 1
    stamp="$("$python" -c 'import sys; print(sys.prefix)')/optenvs-$extras.stamp"
    wanted="$(wanted_stamp "$extras")"
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && has_torch "$python"; then
        return
    fi
    if ! has_torch "$python"; then
        say "installing torch $tested_torch (some minutes the first time)"
        patiently "installing torch" \
            "$python" -m pip install -qq --disable-pip-version-check "torch==$tested_torch" >&2 ||
            fail "torch $tested_torch could not be installed"
    fi
    say "installing optenvs[$extras]"
    patiently "installing optenvs" \
        "$python" -m pip install -qq --disable-pip-version-check --editable "$root[$extras]" >&2 ||
        fail "optenvs[$extras] could not be installed"
    printf '%s\n' "$wanted" >"$stamp"
}
