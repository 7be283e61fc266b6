"""What the box holds in memory, told by the guest's own kernel.

"Used" is MemTotal − MemAvailable: what the kernel could not give to somebody else. Files it keeps
in memory meanwhile (programs too) are not in it, nor what the kernel took before it counted.
"""

import re
from dataclasses import dataclass

from tests.image.machine import Machine

# Shared pages by share; and what of it belongs to the process alone, since no file holds it.
# Processes that end meanwhile are passed over.
_WEIGH = r"""
list="systemctl list-units --type=service --state=running --plain --no-legend"
for unit in $($list | cut -d' ' -f1) init.scope; do
  group=$(systemctl show -p ControlGroup --value $unit)
  for pid in $(cat /sys/fs/cgroup$group/cgroup.procs); do
    awk -v u=$unit '/^Pss:/{p=$2} /^Pss_Anon:/{a=$2} END{if (p) print u, p, a}' \
      /proc/$pid/smaps_rollup
  done
done
"""
_WEIGHED = re.compile(r"^(\S+) (\d+) (\d+)$", re.MULTILINE)  # an emulated line may add noise
_OF_THE_TEST = "debug-shell.service"
_KERNEL = ("Shmem", "Slab", "KernelStack", "PageTables", "Percpu")


@dataclass(frozen=True, slots=True)
class Weight:
    """One service, in MiB."""

    pss: float
    own: float


def used_mib(box: Machine) -> int:
    found = memory_mib(box)
    return int(found["MemTotal"] - found["MemAvailable"])


def memory_mib(box: Machine) -> dict[str, float]:
    lines = box.run("cat /proc/meminfo").splitlines()
    pairs = (line.split()[:2] for line in lines)
    return {name.rstrip(":"): int(kib) / 1024 for name, kib in pairs}


def services(box: Machine) -> dict[str, Weight]:
    """Every running service, the heaviest first."""
    found: dict[str, Weight] = {}
    for unit, pss_kib, own_kib in _WEIGHED.findall(box.run(f"({_WEIGH}) 2>/dev/null")):
        before = found.get(unit, Weight(0, 0))
        found[unit] = Weight(before.pss + int(pss_kib) / 1024, before.own + int(own_kib) / 1024)
    return dict(sorted(found.items(), key=lambda each: -each[1].pss))


def told(box: Machine) -> str:
    """For people."""
    memory = memory_mib(box)
    kernel = ", ".join(f"{name} {memory[name]:.0f}" for name in _KERNEL)
    lines = [f"  guest uses {used_mib(box)} MiB of {memory['MemTotal']:.0f} (kernel: {kernel})"]
    for unit, weight in services(box).items():
        mark = " (the test's own)" if unit == _OF_THE_TEST else ""
        lines.append(f"  {unit:34} {weight.pss:5.1f} MiB PSS, own {weight.own:5.1f}{mark}")
    return "\n".join(lines)
