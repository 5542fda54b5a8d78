"""What rules are told of a plan."""

import json
import re
from dataclasses import replace

from cubeflow.plan.estimate import BYTES_PER_ROW, ask_memory_mb
from cubeflow.plan.write import plan_name
from cubeflow.steps.workflow_plan import WorkflowPlan

BATCHES = {"0b" * 8: ["ring"], "0a" * 8: ["fov", "ring"], "0c" * 8: ["ring"]}


def part(unmade):
    return {
        "batches": sorted(BATCHES),
        "labels": {"ring": "11111111", "fov": "22222222"},
        "unmade": unmade,
        "batch_tag": "33333333",
    }


def test_rules_of_a_plan_read_back_have_the_same_names():
    index = {"south": part(BATCHES), "north": part({"0a" * 8: ["fov"]})}
    read_back = json.loads(json.dumps(index, sort_keys=True))
    made, again = (WorkflowPlan("results", False, each, "plan.json").reduce_rules() for each in (index, read_back))
    by_name = {(rule.target, rule.number): (rule.leaves, rule.batches) for rule in made}
    assert by_name == {(rule.target, rule.number): (rule.leaves, rule.batches) for rule in again}
    assert by_name["south", 2] == (["results/south/stack/ring/{batch}-11111111.h5"], f"(?:{'0b' * 8}|{'0c' * 8})")
    assert by_name["north", 1] == (["results/north/stack/fov/{batch}-22222222.h5"], f"(?:{'0a' * 8})")


def small(seconds, **resources):
    """Part of a plan about a target of one batch of which everything is missing."""
    needs = {step: {"memory_mb": 100, "minutes": 1} for step in ("reduce", "stack", "export", "table", "report")}
    return {
        **part({"0a" * 8: ["fov"]}),
        "batches": ["0a" * 8],
        "nodes": {"ring": {}, "fov": {}},
        "missing": {"ring": [], "fov": [f"{'0a' * 8}-22222222"]},
        "finals": {"ring": "ring-1.final.json", "fov": "fov-1.final.json"},
        "table": "runs-1.table.json",
        "stale": ["fov"],
        "stale_table": True,
        "again": [],
        "refused": 0,
        "seconds": seconds,
        "resources": {step: {**need, **resources.get(step, {})} for step, need in needs.items()},
    }


def test_targets_that_share_a_job_are_asked_for_by_its_mark():
    index = {"west": small(1.0), "east": small(1.0), "large": small(1000.0)}
    plan = WorkflowPlan("results", True, index, "/elsewhere/results/.cubeflow/plans/0123456789abcdef.json")
    (name,) = plan.groups
    assert plan.groups[name].targets == ("east", "west")
    assert plan.marks() == {f"results/.cubeflow/together/{name}": True}
    assert plan.frozen == f"results/{plan_name(index)}"
    assert re.fullmatch(r"results/\.cubeflow/plans/[0-9a-f]{16}\.json", plan.frozen)
    assert replace(plan, path="results/plan.json").frozen == plan.frozen  # as a job finds it by itself
    assert plan.finals_apart() == [("large", "ring"), ("large", "fov")]
    assert plan.tables_apart() == ["large"]
    assert plan.missing_stacks() == [f"results/large/stack/fov/{'0a' * 8}-22222222.h5"]
    assert {rule.target for rule in plan.reduce_rules()} == {"west", "east", "large"}  # for a single file on request


def test_a_mark_for_stacks_alone_makes_no_product():
    stacks = {"stale": [], "stale_table": False}
    index = {"west": {**small(1.0), **stacks}, "east": {**small(1.0), **stacks}}
    assert list(WorkflowPlan("results", True, index, "plan.json").marks().values()) == [False]


def test_a_group_needs_the_largest_memory_and_the_time_of_all():
    report = {"memory_mb": 9000, "minutes": 99}  # is no step of the chain
    one = small(1.0, reduce={"memory_mb": 300, "minutes": 9}, report=report)
    two = small(1.0, export={"memory_mb": 500, "minutes": 4})
    plan = WorkflowPlan("results", True, {"one": one, "two": two}, "plan.json")
    (name,) = plan.groups
    assert plan.group_need(name) == {"memory_mb": 64 + 500, "minutes": 9 + 1 + 1 + 1 + 1 + 1 + 4 + 1}
    assert plan.group_memory_mb(name, 3) == (64 + 500 + 350) * 2
    assert plan.group_minutes(name, 2) == (19 + 5) * 2


def test_the_report_holds_the_rows_of_all_targets():
    many = 10**6
    index = {"west": small(1.0, report={"memory_mb": 300}), "east": small(1.0), "north": small(1.0)}
    index = {name: {**entry, "runs": many} for name, entry in index.items()}
    plan = WorkflowPlan("results", True, index, "results/plan.json")
    assert plan.report_memory_mb() == ask_memory_mb(300 + int(2 * BYTES_PER_ROW * 2 * many / 2**20), 1)
    assert plan.report_memory_mb(2) > plan.report_memory_mb()
