"""
Complain about a wheel that does not hold exactly the package, the plugin file and its own metadata.
"""

import sys
from pathlib import Path
from zipfile import ZipFile

CHECKOUT = Path(__file__).parent.parent


def main(wheel: str) -> str | None:
    """
    @param wheel: the path of a wheel.
    @return: what is wrong with it, or C{None}.
    """
    package = {path for path in (CHECKOUT / "twistproxy").rglob("*") if path.is_file()}
    wanted = {path.relative_to(CHECKOUT).as_posix() for path in package if "__pycache__" not in path.parts}
    wanted.add("twisted/plugins/twistproxy_plugin.py")
    held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    if held == wanted:
        print(f"{len(held)} files, as it should be")
        return None
    return f"stray: {sorted(held - wanted)}\nmissing: {sorted(wanted - held)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
