# What some tests need beside Python packages. Source it after .ci/environment.sh, then call
#
#   fetch_data      Fashion-MNIST for one test: Debian's package, unpacked into .data without installing it; exports
#                   OPTENVS_DATA
#   fetch_browser   a headless Chromium for the tests of the page: in CI Debian's package is installed; anywhere else
#                   the one that is there is used
#
# Where something cannot be had they say so, and pytest reports the tests as skipped.

fetch_data() {
    [ -z "${OPTENVS_DATA:-}" ] || return 0
    [ ! -d /usr/share/datasets/fashion-mnist ] || return 0
    local folder="$root/.data" package="dataset-fashion-mnist"
    if [ ! -d "$folder/usr/share/datasets/fashion-mnist" ]; then
        if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
            say "no apt here: the test on Fashion-MNIST will be skipped (set OPTENVS_DATA to a folder that has it)"
            return 0
        fi
        mkdir -p "$folder"
        if ! (cd "$folder" && { apt-get download -qq "$package" || { apt-get update -qq && apt-get download -qq "$package"; }; } &&
            dpkg-deb -x "$package"_*.deb . && rm -f "$package"_*.deb) >/dev/null 2>&1; then
            say "the package $package could not be fetched: the test on Fashion-MNIST will be skipped"
            return 0
        fi
    fi
    export OPTENVS_DATA="$folder"
}

fetch_browser() {
    local name package="chromium-headless-shell"
    [ -z "${OPTENVS_CHROMIUM:-}" ] || return 0
    for name in chromium-headless-shell chromium chromium-browser google-chrome; do
        ! command -v "$name" >/dev/null || return 0
    done
    if [ -z "${CI:-}" ] || [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        say "no Chromium here: the tests of the page in a browser will be skipped (install the package $package, or" \
            "set OPTENVS_CHROMIUM to the program)"
        return 0
    fi
    say "installing $package"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get install -qq -y --no-install-recommends "$package" ||
        { apt-get update -qq && apt-get install -qq -y --no-install-recommends "$package"; }; } >/dev/null 2>&1 ||
        say "the package $package could not be installed: the tests of the page in a browser will be skipped"
}
