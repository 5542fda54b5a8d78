"""Describe the commands of jobs as tools of the Common Workflow Language: ``python workflow/cwl.py FOLDER``.

What a tool takes is read off the command. A job reads and writes in one folder, so that a tool gets a copy of the
results as earlier jobs have left them, and gives them with its own: what one gives is ``before`` of the next.
"""

import json
import sys
from pathlib import Path

import click

from cubeflow.cli import main
from cubeflow.cli.workflow import ABOUT

RESULTS = "results"  # the option, and the folder in which the tool works


def describe(command: click.Command) -> dict[str, object]:
    """Tool of a command: its arguments in order, its options by their names, and the results."""
    inputs: dict[str, object] = {
        "before": {"type": "Directory?", "doc": "Results of the jobs before; none: an empty one."}
    }
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    for parameter in command.params:
        name = str(parameter.name)
        if isinstance(parameter, click.Argument):
            kind = "File" if isinstance(parameter.type, click.Path) else "string"
            inputs[name] = {"type": kind, "inputBinding": {"position": arguments.index(parameter)}}
        elif name != RESULTS:
            inputs[name] = {"type": "boolean?", "doc": parameter.help, "inputBinding": {"prefix": parameter.opts[0]}}
    listing = [{"entry": "$(inputs.before)", "entryname": RESULTS, "writable": True}]
    return {
        "cwlVersion": "v1.2",
        "class": "CommandLineTool",
        "doc": ABOUT[str(command.name)],
        "baseCommand": ["cubeflow", str(command.name)],
        "arguments": [{"prefix": f"--{RESULTS}", "valueFrom": RESULTS}],
        "requirements": {"InitialWorkDirRequirement": {"listing": listing}},
        "inputs": inputs,
        "outputs": {RESULTS: {"type": "Directory", "outputBinding": {"glob": RESULTS}}},
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for verb in ABOUT:
        (folder / f"{verb}.cwl").write_text(json.dumps(describe(main.commands[verb]), indent=1) + "\n")
