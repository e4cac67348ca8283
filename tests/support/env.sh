# shellcheck shell=bash
# Where things are built. For the Makefile and for scripts.

HALDANE_CACHE=${HALDANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/haldane}
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HALDANE_CACHE/target}
CARGO_BUILD_TARGET=${CARGO_BUILD_TARGET:-$(rustc -vV | sed -n 's/^host: //p')}
# One static binary is the whole image. The target is named because without it the flags would link build scripts statically too.
RUSTFLAGS=${RUSTFLAGS--C target-feature=+crt-static}
export HALDANE_CACHE CARGO_TARGET_DIR CARGO_BUILD_TARGET RUSTFLAGS
# What runs in a cluster is what ships; with HALDANE_PROFILE=dev it is what the tests are built with.
HALDANE_PROFILE=${HALDANE_PROFILE:-release}
# shellcheck disable=SC2034 # for those who source this
case $HALDANE_PROFILE in dev) built=debug ;; *) built=$HALDANE_PROFILE ;; esac
built=$CARGO_TARGET_DIR/$CARGO_BUILD_TARGET/$built

# Checkouts share the target folder, and cargo goes by the age of files alone: it would take another checkout's newer build for this one's.
checkout=$(readlink -f "$(dirname "${BASH_SOURCE[0]}")/../..")
if [ "$(cat "$CARGO_TARGET_DIR/checkout" 2>/dev/null)" != "$checkout" ]; then
  mkdir -p "$CARGO_TARGET_DIR"
  find "$checkout/src" "$checkout/tests" -name '*.rs' -exec touch {} +
  echo "$checkout" >"$CARGO_TARGET_DIR/checkout"
fi
