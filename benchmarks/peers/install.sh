#!/usr/bin/env bash
# Install what hcsflow is measured against, each in a virtual environment of its own:
#
#   benchmarks/peers/install.sh [FOLDER]     # default: ~/.cache/hcsflow-peers
#
# FOLDER/openhcs  OpenHCS 0.8.6 as pip resolves it. It runs on the CPU without torch, which is
#                 therefore not there; PyQt6 and OpenCV are dependencies of its own.
# FOLDER/writers  libraries that write OME-Zarr: ngff-zarr, ome-zarr-py, tensorstore, zarr-python; and
#                 what plain scripts with them use: numcodecs, tifffile, OpenCV.
#
# Python 3.11 or later; PYTHON=python3.12 chooses another one. About 2 GB.
set -euo pipefail

folder=${1:-$HOME/.cache/hcsflow-peers}
python=${PYTHON:-python3}

install() {
    local name=$1
    shift
    if [ ! -x "$folder/$name/bin/python" ]; then
        "$python" -m venv "$folder/$name"
    fi
    "$folder/$name/bin/python" -m pip install --quiet "$@"
    "$folder/$name/bin/python" -m pip freeze > "$folder/$name.txt"
}

mkdir -p "$folder"
install openhcs openhcs==0.8.6
install writers ngff-zarr ome-zarr tensorstore zarr numcodecs tifffile opencv-python-headless dask
echo "peers are in $folder; what exactly: openhcs.txt, writers.txt"
