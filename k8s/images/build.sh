#!/usr/bin/env bash
# Builds the images that the selected stages need: orchestrator always, segmentation for 1, editing for 2 (LoRAs
# too), evaluation for 3.
#
#   STAGES=12 REGISTRY=europe-docker.pkg.dev/PROJECT/lanepaint k8s/images/build.sh [--push] [--print]
#
#   STAGES    1, 2, 3, 12, 23 or 123 (default), as `lanepaint run --stages`
#   REGISTRY  where images belong (default: lanepaint)
#   TAG       default: the commit, so that a tag says what is in the image; uncommitted changes need one of your own
#   --push    push each image when it is built; else it stays on this machine
#   --print   print the commands, and run none
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() {
    echo "build.sh: $1" >&2
    exit 2
}

output=--load
run() { "$@"; }
for option in "$@"; do
    case $option in
        --push) output=--push ;;
        --print) run() { echo "${*@Q}"; } ;;
        *) fail "unknown option $option; there are --push and --print" ;;
    esac
done

case ${STAGES:=123} in
    1 | 2 | 3 | 12 | 23 | 123) ;;
    *) fail "STAGES=$STAGES is not allowed; stages are 1, 2, 3, 12, 23 and 123" ;;
esac

# What .dockerignore lets into a build.
changed=$(git status --porcelain -- .dockerignore LICENSE README.md constraints.txt k8s/images lanepaint_assets pyproject.toml)
commit=
if [[ -z $changed ]]; then
    commit=$(git rev-parse HEAD)
elif [[ -z ${TAG:-} ]]; then
    fail "uncommitted changes would be in the images: commit them, or name a TAG"
fi
: "${TAG:=${commit:0:12}}"
# A cluster would go on with the image that it has.
[[ $TAG != latest ]] || fail "TAG=latest is not allowed: every build needs a tag of its own"

images=(orchestrator)
[[ $STAGES == *1* ]] && images+=(segmentation)
[[ $STAGES == *2* ]] && images+=(editing)
[[ $STAGES == *3* ]] && images+=(evaluation)

for image in "${images[@]}"; do
    # SAM 2's and flash-attn's wheels, and the nodes, are of this kind.
    run docker buildx build --platform linux/amd64 --file k8s/images/Dockerfile --target "$image" \
        --build-arg "GIT_COMMIT=$commit" --tag "${REGISTRY:-lanepaint}/$image:$TAG" "$output" .
done
