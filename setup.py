"""Build of PAMR's compiled loops: a plain shared library, the same for every Python; without a compiler, none.

Everything else about the distribution is in pyproject.toml.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

SOURCE = Path("t2d_runtime/masks/pamr/pamr.c")
MODULE = "t2d_runtime.masks.pamr.libpamr"
NAME = "libpamr" + {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so.1")  # as compiled_kernels.py

GCC_OR_CLANG = ["-std=c11", "-O3", "-g0", "-fno-wrapv", "-ffp-contract=fast", "-fno-math-errno", "-fvisibility=hidden"]
"""Python's own -fwrapv keeps gcc from turning loops into vectors."""
MSVC = ["/std:c11", "/O2"]


class BuildLibrary(build_ext):
    """Compiles `pamr.c` to a library that ctypes loads, without anything of Python in it."""

    def get_ext_filename(self, fullname: str) -> str:
        """Name of the library, beside its source."""
        return str(Path(*fullname.split(".")[:-1], NAME))

    def get_export_symbols(self, ext: Extension) -> list[str]:
        """None of a Python module's entry points."""
        return []

    def get_libraries(self, ext: Extension) -> list[str]:
        """None of Python itself."""
        return []

    def build_extension(self, ext: Extension) -> None:
        """Compile with the options of this compiler."""
        ext.extra_compile_args = MSVC if self.compiler.compiler_type == "msvc" else GCC_OR_CLANG
        super().build_extension(ext)


class Wheel(bdist_wheel):
    """A wheel for this platform and any Python where it holds the library, else one for every platform."""

    def run(self) -> None:
        """Build first: only then it is known whether there is a library."""
        self.run_command("build")
        if not self._has_library():
            self.root_is_pure, self.distribution.ext_modules = True, None
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        """Python 3 on this platform, or on any."""
        if not self._has_library():
            return "py3", "none", "any"
        return "py3", "none", super().get_tag()[2]

    def _has_library(self) -> bool:
        build = self.get_finalized_command("build_ext")
        return Path(build.get_ext_fullpath(MODULE)).is_file()


digest = hashlib.sha256(SOURCE.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
library = Extension(
    MODULE,
    [str(SOURCE)],
    define_macros=[("PAMR_SOURCE", digest)],
    depends=["setup.py"],
    optional=True,  # a missing compiler leaves NumPy's loops
)
setup(ext_modules=[library], cmdclass={"build_ext": BuildLibrary, "bdist_wheel": Wheel})
