# Fashion-MNIST for the one test that needs it: from Debian's package, unpacked into .data without installing it.
# Source it after .ci/environment.sh, then call `fetch_data`; it exports OPTENVS_DATA. Where apt is absent (or its
# lists are and there are no rights to fetch them) it says so, and pytest reports the test as skipped.

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
