"""Everything is in pyproject.toml but this: two extensions that the package can do without.

``optional``: where there is no compiler, the installation goes on; NumPy does the work of the kernels, and without
locks of our own, other copies of SQLite in the process are kept away and watched.
"""

import sys

from setuptools import Extension, setup

# Without contraction into fused multiply-adds, sums have the same bits as NumPy's.
flags = ["/O2", "/fp:precise"] if sys.platform == "win32" else ["-O3", "-ffp-contract=off", "-fno-strict-aliasing"]

# Windows' locks belong to a handle, not to the process: nothing is to be done there.
locks = [Extension("spladelite.file._locks", ["spladelite/file/_locks.c"], optional=True)]
if sys.platform == "win32":
    locks = []

setup(
    ext_modules=[
        Extension(
            "spladelite.index._kernels",
            ["spladelite/index/_kernels.pyx"],
            language="c++",
            depends=["spladelite/index/_loops.h"],
            extra_compile_args=flags,
            optional=True,
        ),
        *locks,
    ]
)
