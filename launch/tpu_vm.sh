#!/usr/bin/env bash
# Installs and starts a run on all hosts of a Cloud TPU, from your own machine; it goes on when you leave:
# launch/tpu_vm.sh NAME ZONE REPOSITORY --config=giel_resnet50 --workdir=gs://BUCKET/runs/a
# Once more after a pre-emption: the run resumes. Log of a host: vos/run.log.
set -euo pipefail
if (($# < 4)); then
  echo 'error: needed: launch/tpu_vm.sh NAME ZONE REPOSITORY and the flags of vos-train' >&2
  exit 2
fi
name=$1 zone=$2 repository=$3
shift 3
cache=''
for flag in "$@"; do
  # A spot machine's own disk goes with it.
  if [[ $flag == --workdir=gs://* || (${before:-} == --workdir && $flag == gs://*) ]]; then
    cache=$(printf %q "--compilation_cache=gs://${flag#*gs://}/compilations")
  fi
  before=$flag
done
run="set -e; [ -d vos ] || git clone $(printf %q "$repository") vos; cd vos; launch/install.sh tpu; \
nohup launch/restart.sh .venv/bin/vos-train $cache $(printf '%q ' "$@") > run.log 2>&1 < /dev/null &"
gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$run"
