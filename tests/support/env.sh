# shellcheck shell=bash
# Where things are built. The same as in the Makefile, for scripts that are started without it.

HALDANE_CACHE=${HALDANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/haldane}
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HALDANE_CACHE/target}
CARGO_BUILD_TARGET=${CARGO_BUILD_TARGET:-$(rustc -vV | sed -n 's/^host: //p')}
# One static binary is the whole image.
RUSTFLAGS=${RUSTFLAGS--C target-feature=+crt-static}
export HALDANE_CACHE CARGO_TARGET_DIR CARGO_BUILD_TARGET RUSTFLAGS
# shellcheck disable=SC2034 # for those who source this
released=$CARGO_TARGET_DIR/$CARGO_BUILD_TARGET/release
