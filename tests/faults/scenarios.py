"""The scenarios by name, and the namespaces that some need."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults import files, kills, machine
from tests.faults.runs import Tally


@dataclass(frozen=True)
class Scenario:
    """One kind of injury: `run(folder, long=...)` injures runs there and checks what must hold."""

    run: Callable[..., Tally]
    within_s: float  # the time that a long run may take
    needs: tuple[str, ...] = ()  # namespaces

    @property
    def words(self) -> str:
        """The injury in words."""
        return (self.run.__doc__ or "").strip()


SCENARIOS = {
    "placed-kills": Scenario(kills.placed_kills, 600),
    "random-kills": Scenario(kills.random_kills, 1800),
    "signals": Scenario(kills.signals, 600),
    "race": Scenario(kills.race, 300),
    "launchers": Scenario(kills.launchers, 300),
    "damaged-runs": Scenario(files.damaged_runs, 300),
    "damaged-studies": Scenario(files.damaged_studies, 900),
    "full-disk": Scenario(machine.full_disk, 120, ("--mount",)),
    "read-only": Scenario(machine.read_only, 120, ("--mount",)),
    "no-permission": Scenario(machine.no_permission, 60),
    "no-hard-links": Scenario(machine.no_links, 120),
    "limits": Scenario(machine.limits, 240),
    "small-shm": Scenario(machine.small_shm, 120, ("--mount",)),
    "clocks": Scenario(machine.clocks, 60),
    "containers": Scenario(machine.containers, 120, ("--pid", "--fork", "--mount-proc")),
}
