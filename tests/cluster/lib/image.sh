# shellcheck shell=bash
# Images without a builder: an OCI layout is a tar and three small JSON files, and writing them takes less time than asking a tool to.
# The same content gives the same digest, whoever builds it and when.

# Moves a file among the blobs of a layout and prints its descriptor.
blob() { # layout, file, media type
  local sum
  sum=$(sha256sum "$2" | cut -d' ' -f1)
  mkdir -p "$1/blobs/sha256"
  mv "$2" "$1/blobs/sha256/$sum"
  jq -cn --arg type "$3" --arg sum "sha256:$sum" --argjson size "$(stat -c %s "$1/blobs/sha256/$sum")" \
    '{mediaType: $type, digest: $sum, size: $size}'
}

# Writes the layout of an image that holds one binary as its entry point, and prints the digest of its manifest.
oci_layout() { # layout, name:tag, binary, file=path…
  local layout=$1 ref=$2 binary=$3 extra layer config manifest
  shift 3
  [ -f "$binary" ] || die "there is no binary $binary"
  # A binary that asks for a loader would fail in a pod with "no such file or directory", naming itself.
  ! grep -qaE -m1 '/lib(64)?/ld-(linux|musl)' <(head -c 4096 "$binary") || die "$binary is linked dynamically; an image from scratch needs a static one"
  mkdir -p "$layout/root"
  # Without what only a debugger reads: most of a binary that was built for tests.
  strip -o "$layout/root/$(basename "$binary")" "$binary"
  chmod 0755 "$layout/root/$(basename "$binary")"
  for extra in "$@"; do
    [[ $extra = ?*=/?* ]] || die "'$extra' is not FILE=/PATH-IN-IMAGE"
    install -D -m 0644 "${extra%%=*}" "$layout/root${extra#*=}"
  done
  tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$layout/root" -cf "$layout/layer" .
  rm -r "$layout/root"

  layer=$(blob "$layout" "$layout/layer" application/vnd.oci.image.layer.v1.tar)
  jq -cn --arg entry "/$(basename "$binary")" --argjson layer "$layer" --arg arch "$(go_arch)" --arg commit "${HALDANE_IMAGE_REVISION:-}" \
    '{os: "linux", architecture: $arch, config: ({User: "65532:65532", Entrypoint: [$entry]} +
      if $commit == "" then {} else {Labels: {"org.opencontainers.image.revision": $commit}} end), rootfs: {type: "layers", diff_ids: [$layer.digest]}}' \
    >"$layout/config"
  config=$(blob "$layout" "$layout/config" application/vnd.oci.image.config.v1+json)
  jq -cn --argjson layer "$layer" --argjson config "$config" \
    '{schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json", config: $config, layers: [$layer]}' >"$layout/manifest"
  manifest=$(blob "$layout" "$layout/manifest" application/vnd.oci.image.manifest.v1+json)
  jq -cn --argjson m "$manifest" --arg ref "$ref" '{schemaVersion: 2, manifests: [$m + {annotations: {
      "io.containerd.image.name": $ref, "org.opencontainers.image.ref.name": ($ref | split(":") | last)}}]}' >"$layout/index.json"
  echo '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
  jq -r .digest <<<"$manifest"
}

go_arch() { case $(uname -m) in aarch64) echo arm64 ;; *) echo amd64 ;; esac; }

# The image that containerd holds every pod's namespaces with.
pause_archive() { # file
  local layout
  layout=$(mktemp -d "$bin/.pause.XXXXXX")
  oci_layout "$layout" "$pause_image" "$bin/pause" >/dev/null
  tar -C "$layout" -cf "$1.new" .
  rm -r "$layout"
  mv "$1.new" "$1"
}

# Sends a layout to the cluster's own registry: plain HTTP, no login. Blobs that are there are not sent again.
push_own() { # layout, repository, tag
  local layout=$1 api="http://$registry/v2/$2" file sum place manifest
  manifest=$(jq -r '.manifests[0].digest' "$layout/index.json")
  for file in "$layout"/blobs/sha256/*; do
    sum=sha256:${file##*/}
    if [ "$sum" = "$manifest" ] || curl -sfI "$api/blobs/$sum" >/dev/null; then continue; fi
    place=$(curl -sS -f -X POST -D - -o /dev/null "$api/blobs/uploads/" | awk 'tolower($1) == "location:" { print $2 }' | tr -d '\r')
    curl -sS -f -X PUT -H 'Content-Type: application/octet-stream' --upload-file "$file" "$place&digest=$sum" >/dev/null
  done
  curl -sS -f -X PUT -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' \
    --data-binary "@$layout/blobs/sha256/${manifest#sha256:}" "$api/manifests/$3" >/dev/null
}

# A registry of the user's may want TLS and a login: skopeo knows both.
push_foreign() { # layout, repository, tag
  local -a http=()
  [ -z "${HALDANE_REGISTRY_HTTP:-}" ] || http=(--dest-tls-verify=false)
  command -v skopeo >/dev/null || die "skopeo is missing; it pushes images to $registry"
  skopeo copy --quiet --preserve-digests "${http[@]}" "oci:$1:$3" "docker://$registry/$2:$3" >&2
}

cluster_image() { # [name] binary image:tag [file=path…]
  local push=push_own asked='' repository tag digest
  # `image NAME BINARY IMAGE:TAG` and `image BINARY IMAGE:TAG` differ in where the colon is.
  [[ ${2:-} = *:* && ${2:-} != *=* ]] || { asked=${1:-}; shift || true; }
  [[ $# -ge 2 && $2 = ?*:?* ]] || die "usage: cluster image [NAME] BINARY IMAGE:TAG [FILE=/PATH-IN-IMAGE…]"
  repository=${2%:*} tag=${2##*:}

  if foreign; then
    push=push_foreign registry=${HALDANE_REGISTRY:-}
    [ -n "$registry" ] || die "set HALDANE_REGISTRY to a registry that this machine and the cluster of $KUBECONFIG both reach, as in HALDANE_REGISTRY=registry.example.com/team"
  else
    own_cluster "$asked"
  fi
  layout=$(mktemp -d)
  trap 'rm -rf "$layout"' EXIT
  digest=$(oci_layout "$layout" "$registry/$2" "$1" "${@:3}")
  "$push" "$layout" "$repository" "$tag" || die "the registry $registry did not take $2"
  echo "$registry/$repository@$digest"
}
