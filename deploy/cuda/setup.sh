#!/usr/bin/env bash
# Sets up what the feature `cuda` needs to be built where no CUDA toolkit is installed: the compiler and the libraries
# out of NVIDIA's Python packages, and, where there is no driver, a stub of libcuda to link with.
#
#   deploy/cuda/setup.sh FOLDER        # once; needs python3 with venv, a C compiler, and cargo
#   . FOLDER/environment               # in every shell that builds
#   cargo build --package collimate-device --features cuda
#
# What was linked with the stub runs where a driver is installed, whose libcuda.so.1 is found in the stub's place. Where
# there is none, the stub answers every call with CUDA_ERROR_NO_DEVICE. CUDA_COMPUTE_CAP says what devices the kernels are
# compiled for: 80 (A100), 89 (L40, RTX 40), 90 (H100, H200, the default).
set -euo pipefail

version='13.0.*'
packages=(nvcc crt runtime cccl nvrtc)
cap=${CUDA_COMPUTE_CAP:-90}

if [ $# -ne 1 ]; then
    echo "usage: $0 FOLDER" >&2
    exit 2
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
project=$(cd "$(dirname "$0")/../.." && pwd)

# The packages.
[ -x "$folder/python/bin/python" ] || python3 -m venv "$folder/python"
wanted=("nvidia-nvvm==$version" "nvidia-cublas==$version" "nvidia-curand==10.4.0.*")
for package in "${packages[@]}"; do
    wanted+=("nvidia-cuda-$package==$version")
done
"$folder/python/bin/python" -m pip install --quiet --disable-pip-version-check "${wanted[@]}"

# Where they lie: all in one folder, laid out as a toolkit is, but for two things.
nvcc=$(find "$folder/python/lib" -path '*/nvidia/*/bin/nvcc' | head -n 1)
if [ -z "$nvcc" ]; then
    echo "the packages hold no bin/nvcc: look into $folder/python/lib" >&2
    exit 1
fi
chmod +x "$(dirname "$nvcc")"/* 2>/dev/null || true
home=$(cd "$(dirname "$nvcc")/.." && pwd)
ln -sfn lib "$home/lib64"
for library in "$home"/lib/lib*.so.*; do
    plain=${library%%.so.*}.so
    [ -e "$plain" ] || ln -s "$(basename "$library")" "$plain"
done

# The stub of the driver's library: every function that cudarc may call.
if ! ldconfig -p 2>/dev/null | grep -q 'libcuda\.so\.1'; then
    bindings=$(cargo metadata --manifest-path "$project/Cargo.toml" --format-version 1 --locked \
        --features collimate-device/cuda |
        python3 -c '
import json, os, sys
packages = json.load(sys.stdin)["packages"]
[manifest] = [p["manifest_path"] for p in packages if p["name"] == "cudarc"]
print(os.path.join(os.path.dirname(manifest), "src", "driver", "sys", "mod.rs"))')
    mkdir -p "$home/lib/stubs"
    grep -ohE '\bfn cu[A-Z][A-Za-z0-9_]*' "$bindings" | sort -u |
        sed -E 's/^fn (.*)$/int \1(void) { return 100; }/' > "$folder/stub.c"
    "${CC:-cc}" -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$home/lib/stubs/libcuda.so" "$folder/stub.c"
    ln -sfn libcuda.so "$home/lib/stubs/libcuda.so.1"
fi

cat > "$folder/environment" <<END
export CUDA_HOME='$home'
export PATH="\$CUDA_HOME/bin:\$PATH"
export CUDA_COMPUTE_CAP='$cap'
export LIBRARY_PATH="\$CUDA_HOME/lib:\$CUDA_HOME/lib/stubs\${LIBRARY_PATH:+:\$LIBRARY_PATH}"
export LD_LIBRARY_PATH="\${LD_LIBRARY_PATH:+\$LD_LIBRARY_PATH:}\$CUDA_HOME/lib"
END
echo "ready: . $folder/environment"
