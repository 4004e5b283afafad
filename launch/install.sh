#!/usr/bin/env bash
# Installs what training needs into a virtual environment: launch/install.sh cpu|cuda12|cuda13|tpu [FOLDER]
# The Python of the machine is taken where it is 3.11 or later (that of a TPU VM is not), else uv gets one.
set -euo pipefail
kind=${1:?cpu, cuda12, cuda13 or tpu}
folder=$(realpath -m "${2:-.venv}")
cd "$(dirname "$0")/.."

case $kind in
  cpu) jax=jax ;;
  cuda12 | cuda13 | tpu) jax="jax[$kind]" ;;
  *) echo "error: $kind is not one of cpu, cuda12, cuda13, tpu" >&2; exit 2 ;;
esac
if ! { python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' && python3 -m venv "$folder"; }; then
  export PATH=$HOME/.local/bin:$PATH
  command -v uv >/dev/null || python3 -m pip install --quiet --user uv
  uv venv --quiet --seed --clear --python 3.12 "$folder"
fi
"$folder/bin/python" -m pip install --quiet '.[train,video,gcs]' "$jax"
"$folder/bin/python" -c 'import vos_jax; print("vos_jax", vos_jax.__version__, "is installed")'
