#!/usr/bin/env bash
# Starts a run on TPUs of GKE: launch/xpk.sh CLUSTER TPU_TYPE IMAGE --config=giel_resnet50 --workdir=gs://BUCKET/runs/a
# IMAGE is that of launch/Dockerfile with KIND=tpu. XPK itself starts again on the exit codes 127 to 255.
set -euo pipefail
if (($# < 4)); then
  echo 'error: needed: launch/xpk.sh CLUSTER TPU_TYPE IMAGE and the flags of vos-train' >&2
  exit 2
fi
cluster=$1 type=$2 image=$3
shift 3
xpk workload create --cluster="$cluster" --workload="vos-$(date +%m%d-%H%M%S)" --tpu-type="$type" \
  --docker-image="$image" --max-restarts=20 --command="vos-train $(printf '%q ' "$@")"
