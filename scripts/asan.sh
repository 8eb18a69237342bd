#!/bin/sh
# Build the compiled kernel with bounds checks, address and undefined-behaviour sanitizers beside a copy of the package,
# and run the kernel's tests and so many damaged files (default 2000) against it: scripts/asan.sh PYTHON [MUTATIONS]
set -eu
python=$(command -v "${1:-python3}")
case $python in /*) ;; *) python=$PWD/$python ;; esac
mutations=${2:-2000}
root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/build/asan
rm -rf "$build"
mkdir -p "$build/spladelite/migrations"
cp "$root/migrations/"* "$build/spladelite/migrations"
(cd "$root/spladelite" && tar cf - --exclude='*.so' --exclude='__pycache__' .) | (cd "$build/spladelite" && tar xf -)
cd "$build"
sed 's/boundscheck=False/boundscheck=True/; s/initializedcheck=False/initializedcheck=True/' \
    "$root/spladelite/index/_kernels.pyx" > _kernels.pyx
"$python" -m cython -3 --cplus --module-name spladelite.index._kernels _kernels.pyx -o _kernels.cpp
suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
include=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
# -fsanitize=alignment stays off: the kernel reads uint16 from bytes objects, which x86 and ARM allow.
c++ -shared -fPIC -O1 -g -fno-omit-frame-pointer -ffp-contract=off -fno-strict-aliasing \
    -fsanitize=address,undefined -fno-sanitize=alignment -fno-sanitize-recover=undefined \
    "-I$include" "-I$root/spladelite/index" _kernels.cpp -o "spladelite/index/_kernels$suffix"
export LD_PRELOAD="$(c++ -print-file-name=libasan.so) $(c++ -print-file-name=libubsan.so)"
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 PYTHONPATH="$build:$root/tests" PYTHONMALLOC=malloc
"$python" -c 'from spladelite.index import kernels, _kernels; assert kernels.KERNEL == "compiled"; print(_kernels.__file__)'
"$python" -m pytest -q -p no:cacheprovider "$root/tests/test_kernels.py" "$root/tests/test_oracle.py"
"$python" -m torture damage "$mutations"
