"""What rules are told of a plan."""

import json

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
