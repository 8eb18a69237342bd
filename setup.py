"""Everything is in pyproject.toml but this: the compiled kernel.

Where there is no C++ compiler, an installation goes on without it, and NumPy does the work, many times slower. A release
must not: with ``SPLADELITE_REQUIRE_KERNEL=1`` the build fails instead.

The extension uses Python's limited API: one wheel a platform serves every Python from 3.11 on.
"""

import os
import sys

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel

ABI = 0x030B0000  # Python 3.11, the first whose limited API has the buffer protocol


class AbiWheel(bdist_wheel):
    """A wheel for every Python from the oldest that is supported."""

    def finalize_options(self) -> None:
        """Tag it cp311-abi3."""
        self.py_limited_api = "cp311"
        super().finalize_options()


if sys.platform == "win32":
    compile_flags, link_flags = ["/O2", "/fp:precise"], []
else:
    # Without contraction into fused multiply-adds, sums have the same bits as NumPy's.
    compile_flags = ["-O3", "-g0", "-ffp-contract=off", "-fno-strict-aliasing"]
    link_flags = ["-Wl,-S"] if sys.platform == "darwin" else ["-s"]  # without symbols: a seventh of the size

setup(
    ext_modules=[
        Extension(
            "spladelite.index._kernels",
            ["spladelite/index/_kernels.pyx"],
            language="c++",
            depends=["spladelite/index/_loops.h"],
            define_macros=[("Py_LIMITED_API", hex(ABI)), ("CYTHON_LIMITED_API", "1")],
            py_limited_api=True,
            extra_compile_args=compile_flags,
            extra_link_args=link_flags,
            optional=os.environ.get("SPLADELITE_REQUIRE_KERNEL") != "1",
        )
    ],
    cmdclass={"bdist_wheel": AbiWheel},
)
