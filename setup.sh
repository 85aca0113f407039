#!/bin/sh
# Makes .venv in this folder and installs requirements.lock, merlin.lock and the project into it. When that is done
# already it installs nothing and takes well under a second. An installation that was broken off is started afresh, and
# so is one of other locks: what they do not name must not linger.
#
#   sh setup.sh                            the newest fitting Python on PATH or of pyenv: 3.13, 3.12 or 3.11
#   sh setup.sh --night                    no more than a night needs, night.lock; a run without it adds the rest
#   PYTHON=/path/to/python3.12 sh setup.sh
#   sh setup.sh --clean                    delete the environment again
#
# MARQUEE_VENV names another folder than .venv, seen from this folder. Only an environment that this script made is ever
# changed or deleted: one with a file .made-in.
set -eu
unset CDPATH PYTHONPATH PYTHONHOME VIRTUAL_ENV PIP_USER PIP_TARGET PIP_PREFIX
cd -P -- "$(dirname -- "$0")"
venv=${MARQUEE_VENV:-.venv}
case $venv in /*) ;; *) venv=./$venv ;; esac
venv=${venv#./}
case $venv in -*) venv=./$venv ;; esac
python=$venv/bin/python
mark=$venv/.made-in

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# A Python fits if it runs (a pyenv shim may not), is one that the locks were made for, and can make an environment with
# pip in it (Debian's python3 cannot without python3-venv).
fits() {
    "$1" -I -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

# Why a Python does not fit, in words.
why_not() {
    "$1" -I -c 'import sys
lacks = ", but without venv and ensurepip" if (3, 11) <= sys.version_info[:2] <= (3, 13) else ""
print("Python %d.%d" % sys.version_info[:2] + lacks)' 2>/dev/null || echo "does not run"
}

on_path() {
    (IFS=:; for folder in $PATH; do printf '%s\n' "$folder/$1"; done)
}

candidates() {
    pyenv=${PYENV_ROOT:-${HOME:-}/.pyenv}/versions
    for version in 3.13 3.12 3.11; do
        on_path "python$version"
        for file in "$pyenv/$version".*/bin/python; do
            printf '%s\n' "$file"
        done
    done
    on_path python3
    on_path python
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        fits "$PYTHON" || fail "PYTHON=$PYTHON is no Python 3.11, 3.12 or 3.13 that can make a virtual environment" \
            "($(why_not "$PYTHON")); name another."
        printf '%s\n' "$PYTHON"
        return
    fi
    candidates | while IFS= read -r file; do
        if [ -x "$file" ] && fits "$file"; then
            printf '%s\n' "$file"
            break
        fi
    done
}

# The first few Pythons that are there but do not fit.
found_instead() {
    candidates | while IFS= read -r file; do
        if [ -x "$file" ]; then
            printf '%s is there: %s\n' "$file" "$(why_not "$file")"
        fi
    done | sed -n '1,3{ s/^/; /; H; }; ${ x; s/\n//g; p; }'
}

# Of the files that say what an environment is made of: the locked packages, and the project's metadata.
locks="night.lock requirements.lock merlin.lock"
digest() {
    "$python" -I - "$@" 2>/dev/null <<'END'
import hashlib, pathlib, sys
parts = [pathlib.Path(name).read_bytes() for name in sys.argv[1:]]
print(hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest())
END
}

is_ours() {
    [ -f "$mark" ] && [ ! -L "$mark" ]
}

# An environment names its folder in many files: moved or copied with the project, it has to be made again.
is_moved() {
    is_ours && [ "$(cat "$mark")" != "$PWD" ]
}

is_empty() {
    for entry in "$venv"/* "$venv"/.[!.]* "$venv"/..?*; do
        if [ -e "$entry" ] || [ -L "$entry" ]; then
            return 1
        fi
    done
}

# Nothing but an empty folder, or an environment that this script made for this project.
refuse_what_is_not_ours() {
    if is_ours; then
        owner=$(cat "$mark")
        real=$(cd -P -- "$venv" && pwd)
        case $real/ in "$PWD"/*) return ;; esac
        if [ "$owner" != "$PWD" ] && [ -e "$owner/setup.sh" ]; then
            fail "$venv is the environment of the project in $owner; set MARQUEE_VENV to another folder."
        fi
    elif [ -d "$venv" ] && is_empty; then
        return
    elif [ -e "$venv/pyvenv.cfg" ]; then
        fail "$venv is in the way: a virtual environment that this script did not make;" \
            "move it, or set MARQUEE_VENV to another folder."
    elif [ -e "$venv" ] || [ -L "$venv" ]; then
        fail "$venv is in the way and is no virtual environment of this script's;" \
            "move it, or set MARQUEE_VENV to another folder."
    fi
}

# The mark last: a deletion that is broken off leaves a folder that is still known as ours. The folder itself stays: it
# may be a link to one on another disk.
empty() {
    for entry in "$venv"/* "$venv"/.[!.]* "$venv"/..?*; do
        [ "$entry" = "$mark" ] || rm -rf -- "$entry"
    done
    rm -f -- "$mark"
}

is_whole() {
    [ ! -e "$venv/.installing" ] && ! is_moved
}

is_installed() {
    is_whole && wanted=$(digest $locks pyproject.toml) && [ -e "$venv/.installed-$night$wanted" ]
}

# Its packages are those of the locks: all of them, or what a night needs, to which the others can be added.
has_locked_packages() {
    wanted=$(digest $locks) && { [ -e "$venv/.locked-$wanted" ] || [ -e "$venv/.locked-night-$wanted" ]; }
}

has_asked_packages() {
    wanted=$(digest $locks) && [ -e "$venv/.locked-$night$wanted" ]
}

has_everything() {
    is_whole && wanted=$(digest $locks) && [ -e "$venv/.locked-$wanted" ]
}

make_venv() {
    found=$(find_python)
    [ -n "$found" ] || fail "no Python 3.11, 3.12 or 3.13 with venv on PATH or in pyenv$(found_instead)." \
        "Install one (on Debian or Ubuntu the packages python3 and python3-venv)," \
        "or name it with PYTHON=/path/to/python3.13."
    say "making $venv with $found"
    mkdir -p -- "$venv"
    empty
    printf '%s\n' "$PWD" >"$mark"
    echo $$ >"$venv/.installing"
    "$found" -I -m venv "$venv"
}

# pip 26 and later refuse the Merlin packages, whose unused extras name direct URLs. It is never upgraded.
keep_pip_below_26() {
    major=$("$python" -I -m pip --version | sed 's/^pip \([0-9]*\).*/\1/')
    [ "$major" -lt 26 ] || "$python" -I -m pip install -qq 'pip<26'
}

# pip is silent until it is done. On a terminal a clock shows that it works; it ends with this script, however that ends.
clock() {
    seconds=0
    while sleep 5 && kill -0 $$ 2>/dev/null; do
        seconds=$((seconds + 5))
        printf '\rsetup: %s s ' "$seconds" >&2
    done
}

# Python files are compiled as they are imported: of torch's and others' most never are, and that takes half of a set-up.
pip_install() {
    "$python" -I -m pip install -qq --disable-pip-version-check --no-compile "$@"
}

# NVTabular's newest wheel is tagged for Python 3.11; its Python code runs on the newer ones, and none of ours calls its
# compiled part. Into its place by name, since pip would not choose it there.
install_nvtabular() {
    site=$("$python" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    pip_install --no-deps --only-binary=:all: --python-version 3.11 --target "$site" "$(grep '^nvtabular==' merlin.lock)"
}

install_night() {
    say "installing what a night needs into $venv: night.lock, $(grep -c == night.lock) packages" \
        "(once: minutes, and up to 6 GB, nearly all of it torch; make test adds what tests, tools, Merlin and the" \
        "server need)"
    pip_install -r night.lock
}

install_everything() {
    keep_pip_below_26
    say "installing requirements.lock and merlin.lock into $venv: $(cat $locks | grep -c ==) packages, with those of" \
        "tests, tools, Merlin and the server (once: minutes, and up to 7 GB, most of it torch)"
    pip_install -r requirements.lock && install_nvtabular && pip_install --no-deps --no-build-isolation -r merlin.lock
}

install_packages() {
    { if [ -n "$night" ]; then install_night; else install_everything; fi; } &&
        : >"$venv/.locked-$night$(digest $locks)"
}

install() {
    [ ! -t 2 ] || { clock & ticking=$!; }
    failed=
    { has_asked_packages || install_packages; } && pip_install --no-deps --no-build-isolation -e . || failed=yes
    [ ! -t 2 ] || { kill "$ticking" 2>/dev/null || true; printf '\r' >&2; }
    [ -z "$failed" ] ||
        fail "pip could not install everything (its own words are above); run this again once that is mended."
}

# Compiles what makes lists once, so that the first night need not; what fails here is compiled then.
warm_up() {
    say "compiling what makes lists (seconds, once)"
    "$python" -m sdk doctor --warm-up >/dev/null 2>&1 || say "could not compile ahead; the first list will"
}

refuse_what_is_not_ours
if [ -e "$venv/.installing" ]; then
    owner=$(cat "$venv/.installing")
    if [ -n "$owner" ] && kill -0 "$owner" 2>/dev/null; then
        fail "process $owner is installing into $venv; wait for it, or delete $venv if that process is something else."
    fi
fi
if [ "${1:-}" = --clean ]; then
    if is_ours; then
        empty
        rmdir -- "$venv" 2>/dev/null || rm -f -- "$venv"
    fi
    exit 0
fi
night=  # or night-: what a night needs is asked for, of an environment that has not everything already
[ "${1:-}" != --night ] || has_everything || night=night-
if is_installed; then
    exit 0
fi
if [ -e "$venv/.installing" ]; then
    say "the last installation was broken off; starting afresh"
    make_venv
elif ! fits "$python" || is_moved || ! has_locked_packages; then
    make_venv
fi
echo $$ >"$venv/.installing"
rm -f "$venv"/.installed-*
install
: >"$venv/.installed-$night$(digest $locks pyproject.toml)"
rm "$venv/.installing"
warm_up
say "done"
