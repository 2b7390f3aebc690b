"""The name `analysis`, by which the package was imported up to 0.2: the same modules as `scaling.analysis`."""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import CodeType, ModuleType

OLD = "analysis."


class OldName(MetaPathFinder, InspectLoader):
    """A finder of analysis.X that gives the module scaling.analysis.X, so that each module exists once."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(OLD) or (found := find_spec(f"scaling.{name}")) is None:
            return None
        return ModuleSpec(name, self, origin=found.origin, is_package=found.submodule_search_locations is not None)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(f"scaling.{spec.name}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        old = module.__spec__
        if old is not None and old.loader is self:  # the import has put the old name's spec into the module
            module.__spec__ = old.loader_state

    def get_code(self, name: str) -> CodeType | None:
        """The code of a module, for `python -m`."""
        spec = find_spec(f"scaling.{name}")
        assert spec is not None
        assert isinstance(spec.loader, InspectLoader)
        return spec.loader.get_code(spec.name)

    def get_source(self, name: str) -> str | None:
        spec = find_spec(f"scaling.{name}")
        assert spec is not None
        assert isinstance(spec.loader, InspectLoader)
        return spec.loader.get_source(spec.name)


def install() -> None:
    """Let this process import the package by its old name too."""
    if not any(isinstance(finder, OldName) for finder in sys.meta_path):
        sys.meta_path.insert(0, OldName())
