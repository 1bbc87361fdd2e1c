"""Puts what is compiled into the wheel, where a compiler is there to make it."""

import importlib.util
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompiledPartsHook(BuildHookInterface):
    """Without compilers the wheel is whole too: the relay then does the same in Python and says so."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self._try("bpf", "without the kernel plane")
        if self._try("native", "Python alone moves packets"):
            build_data["pure_python"] = False
            # The stable ABI: any CPython from the oldest that is supported on.
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"cp311-abi3-{platform}"

    def _try(self, folder: str, without: str) -> bool:
        compiler = self._load(folder)
        try:
            compiler.build()
        except compiler.CannotBuild as reason:
            self.app.display_warning(f"{without}: {reason}")
            return False
        return True

    def _load(self, folder: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"{folder}_build", Path(self.root, folder, "build.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
