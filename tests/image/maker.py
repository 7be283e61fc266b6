"""Further releases of the built system, as its maker would hand them out, and worse ones."""

import json
import shutil
import subprocess
from pathlib import Path

from tests.image.conftest import PROJECT, Built


class Maker:
    """Makes further releases of the built system, good and bad ones."""

    def __init__(self, built: Built, folder: Path) -> None:
        self._built = built
        self._folder = folder
        self.release = json.loads((built.system / "release.json").read_text())

    def small(self, name: str, newer_by: int, *, board: str = "", key: Path | None = None) -> Path:
        """A bundle that holds next to nothing: enough to be refused, or to be written and tried."""
        system = self._folder / f"{name}.d"
        system.mkdir()
        release = self._release(name, newer_by)
        release["board"] = board or release["board"]
        (system / "release.json").write_text(json.dumps(release))
        (system / "vmlinuz").write_bytes(b"kernel" * 100_000)
        (system / "cmdline.txt").write_text("edge.system=a\n")
        return self._pack(name, system, key)

    def system(self, name: str, newer_by: int, *, root: str = "", files: str = "") -> Path:
        """A whole bundle. `root`, `files`: shell commands that change its root ($ROOT), and the
        files beside the root ($SYSTEM); without the first it is the root of the built system."""
        folder = self._folder / f"{name}.d"
        tree, system = folder / "root", folder / "system"
        release = json.dumps(self._release(name, newer_by))
        folder.mkdir()
        subprocess.run(["cp", "-al", self._built.system, system], check=True)  # links: no space
        self._change(files, SYSTEM=str(system))
        (system / "release.json").unlink()
        (system / "release.json").write_text(release)
        if root:
            subprocess.run(["cp", "-al", self._built.root, tree], check=True)
            inner = tree / "usr/lib/edge/release.json"
            inner.unlink()
            inner.write_text(release)
            self._change(root, ROOT=str(tree))
            (system / "root.squashfs").unlink()
            squeeze = ["-comp", "zstd", "-Xcompression-level", "1", "-b", "256K", "-quiet"]
            made = ["mksquashfs", tree, system / "root.squashfs", "-noappend", "-no-progress"]
            subprocess.run([*made, *squeeze], check=True)
        return self._pack(name, system, None)

    def _release(self, name: str, newer_by: int) -> dict[str, object]:
        return {**self.release, "release": name, "version": self.release["version"] + newer_by}

    def _change(self, command: str, **places: str) -> None:
        subprocess.run(["sh", "-euc", command], env={"PATH": "/usr/bin:/bin", **places}, check=True)

    def _pack(self, name: str, system: Path, key: Path | None) -> Path:
        signing = key or Path(self._built.step("key", "path").stdout.strip())
        maker = [PROJECT / ".venv/bin/python", PROJECT / "image/step/bundle.py"]
        bundle = self._folder / f"{name}.update"
        subprocess.run([*maker, system, signing, bundle], check=True)
        shutil.rmtree(system.parent if system.name == "system" else system)
        return bundle
