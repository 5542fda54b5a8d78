"""The simulated store of the demo, made when it is not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cubeflow.config import Config
from cubeflow.dl3.simulate import simulate_store
from cubeflow.dl3.simulate_plan import SimulationOptions


def make_demo_store(config: Config, say: Callable[[str], None]) -> None:
    """Simulate the store of a configuration that has a section ``simulate``, if its index is absent.

    The source lies at the first target.
    """
    store = Path(config.data.store)
    if config.simulate is None or (store / "hdu-index.fits.gz").is_file():
        return
    section = config.simulate
    ra_deg, dec_deg = next(iter(config.targets.values())).icrs_deg
    options = SimulationOptions(
        seed=section.seed,
        n_runs=section.runs,
        duration_s=section.duration_s,
        centre=(ra_deg, dec_deg),
        sources=((ra_deg, dec_deg, 1.0),),
    )
    say(f"{store}: simulating {options.n_runs} runs of {options.duration_s:g} s")
    simulate_store(store, options)
