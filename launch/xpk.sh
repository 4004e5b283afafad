#!/usr/bin/env bash
# Starts a run on TPUs of GKE: launch/xpk.sh CLUSTER TPU_TYPE IMAGE --config=giel_resnet50 --workdir=gs://BUCKET/runs/a
# IMAGE is that of launch/Dockerfile with KIND=tpu. XPK itself starts again on the exit codes 127 to 255.
set -euo pipefail
cluster=${1:?cluster} type=${2:?TPU type, as v5litepod-16} image=${3:?image}
shift 3
xpk workload create --cluster="$cluster" --workload="vos-$(date +%m%d-%H%M%S)" --tpu-type="$type" \
  --docker-image="$image" --max-restarts=20 --command="vos-train $(printf '%q ' "$@")"
