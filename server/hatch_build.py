"""Puts the kernel plane's program into the wheel, where clang is there to make it."""

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KernelProgramHook(BuildHookInterface):
    """Without clang the wheel is whole too: the relay then runs in userspace and says so."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        spec = importlib.util.spec_from_file_location("bpf_build", Path(self.root, "bpf", "build.py"))
        assert spec is not None
        assert spec.loader is not None
        bpf = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(bpf)
        try:
            bpf.build()
        except bpf.CannotBuild as reason:
            self.app.display_warning(f"built without the kernel plane: {reason}")
