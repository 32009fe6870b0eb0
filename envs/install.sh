#!/bin/sh
# Run by both container definitions: what <device>.txt beside this script pins, in an environment at /opt/environment.
set -eu
here=$(dirname "$0")
device=$1

case $device in
cpu) compiler= ;;
gpu) compiler="gcc libc6-dev python3-dev" ;; # Triton compiles a launcher for each kernel
*)
    echo "DEVICE is cpu or gpu, not '$device'" >&2
    exit 1
    ;;
esac

apt-get update
# git: the commit of the checkout is written beside the scores.
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
    ca-certificates git python3 python3-venv $compiler
rm -rf /var/lib/apt/lists/*

# The Python that the pins were resolved for is Debian bookworm's.
python3 -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "the base image must have Python 3.11")'
python3 -m venv /opt/environment
# The constraints: on x86_64 the torch of cpu.txt, too, is a CUDA build and needs more, unless an index of CPU builds is named.
/opt/environment/bin/python -m pip install --no-cache-dir --requirement "$here/$device.txt" --constraint "$here/constraints.txt"
/opt/environment/bin/python -m pip check
