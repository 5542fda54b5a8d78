"""Where the workflow is, and the verbs that its rules call, one for each kind of job."""

from importlib import import_module
from pathlib import Path

import click

from cubeflow.cli.group import FILE, NEW_FOLDER, say

ABOUT = {
    "off": "Count OFF runs in their fields of view, for an acceptance model.",
    "model": "Fit an acceptance model to its OFF runs.",
    "reduce": "Reduce runs: their artifacts, and the sums of batches.",
    "stack": "Stack stacks into one: a node of the tree.",
    "export": "Write final products and run tables.",
    "figures": "Draw pictures, the figures of the report, and DS9 regions.",
    "report": "Put the pages of the report together from the figures.",
}
FOLDER = Path(__file__).resolve().parents[1] / "workflow"
PROFILES = sorted(path.name for path in FOLDER.glob("profiles/*"))


@click.command()
@click.option("--profile", "-p", type=click.Choice(PROFILES), help="Rather the folder of this profile.")
def workflow(profile: str | None) -> None:
    """Print the path of the Snakefile; beside it lie its profiles.

    Example: cubeflow workflow --profile slurm
             snakemake -s "$(cubeflow workflow)" --cores 2 --configfile mine.yaml
    """
    click.echo((FOLDER / "profiles" / profile if profile else FOLDER / "Snakefile").resolve())


def _job_verb(name: str, text: str) -> click.Command:
    example = f"cubeflow {name} results/.cubeflow/plan-0123456789abcdef-fedcba9876543210.jsonl {name}_1"

    @click.command(name, help=f"{text}\n\nExample: {example}")
    @click.argument("plan", type=FILE)
    @click.argument("job")
    @click.option("--results", type=NEW_FOLDER, help="Folder of the files.  [default: that of the PLAN]")
    def verb(plan: Path, job: str, results: Path | None) -> None:
        module = "report.page" if name in ("figures", "report") else "plan.run"
        import_module(f"cubeflow.{module}").do_job(plan, job, say, results or plan.absolute().parents[1])

    return verb


JOBS = [_job_verb(name, text) for name, text in ABOUT.items()]


@click.command()
@click.argument("folder", type=NEW_FOLDER)
@click.option("--runs", type=click.IntRange(1, 100_000), default=6, show_default=True, help="Number of runs.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Seed of the random numbers.")
@click.option("--duration", type=click.FloatRange(1), default=1680, show_default=True, help="Duration of a run in s.")
@click.option("--first", type=click.IntRange(0), default=100001, show_default=True, help="Number of the first run.")
@click.option("--tiny", is_flag=True, help="Small responses, for stores of thousands of runs.")
def simulate(folder: Path, runs: int, seed: int, duration: float, first: int, tiny: bool) -> None:
    """Simulate a small DL3 store with a source like the Crab nebula.

    Example: cubeflow simulate results/demo-dl3 --runs 6
    """
    from cubeflow.simulate.store import SimulationOptions, simulate_store

    options = SimulationOptions(seed=seed, n_runs=runs, duration_s=duration, first_obs_id=first, tiny=tiny)
    files = simulate_store(folder, options)
    say(f"{folder}: {len(files)} files")
