"""Everything is in pyproject.toml but this: an extension that the package can do without.

``optional``: where there is no C++ compiler, the installation goes on, and NumPy does the work.
"""

import sys

from setuptools import Extension, setup

# Without contraction into fused multiply-adds, sums have the same bits as NumPy's.
flags = ["/O2", "/fp:precise"] if sys.platform == "win32" else ["-O3", "-ffp-contract=off", "-fno-strict-aliasing"]

setup(
    ext_modules=[
        Extension(
            "spladelite.index._kernels",
            ["spladelite/index/_kernels.pyx"],
            language="c++",
            depends=["spladelite/index/_loops.h"],
            extra_compile_args=flags,
            optional=True,
        )
    ]
)
