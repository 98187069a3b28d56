"""
The examples of the documentation, which are files.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType


def moduleAt(path: Path, name: str | None = None) -> ModuleType:
    """
    @param name: what it is told to be called; by default the name of its file, behind that of its folder.
    @return: the file as a module, which is run anew.
    """
    spec = importlib.util.spec_from_file_location(name or f"{path.parent.name}_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
