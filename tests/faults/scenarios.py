"""The scenarios by name, and the namespaces, Slurm or Ray that some need."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tests.faults import clusters, files, fleet, kills, machine
from tests.faults.runs import Tally


@dataclass(frozen=True)
class Scenario:
    """One kind of injury: `run(folder, long=...)` injures runs there and checks what must hold."""

    run: Callable[..., Tally]
    within_s: float  # the time that a long run may take
    missing: Callable[[], str] = lambda: ""  # the reason why it cannot run here

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
    "damaged-studies": Scenario(files.damaged_studies, 1800),
    "full-disk": Scenario(machine.full_disk, 120, partial(machine.namespaces, "--mount")),
    "read-only": Scenario(machine.read_only, 120, partial(machine.namespaces, "--mount")),
    "no-permission": Scenario(machine.no_permission, 60),
    "no-hard-links": Scenario(machine.no_links, 120),
    "limits": Scenario(machine.limits, 240),
    "small-shm": Scenario(machine.small_shm, 120, partial(machine.namespaces, "--mount")),
    "clocks": Scenario(machine.clocks, 60),
    "containers": Scenario(machine.containers, 120, partial(machine.namespaces, "--pid", "--fork", "--mount-proc")),
    "workers": Scenario(fleet.workers, 600),
    "two-kinds": Scenario(fleet.two_kinds, 600),
    "preemption": Scenario(fleet.preemption, 600),
    "slurm": Scenario(clusters.slurm_jobs, 900, clusters.without_slurm),
    "ray": Scenario(clusters.ray_actors, 900, clusters.without_ray),
}
