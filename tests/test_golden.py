"""The stories that ship beside the rulebook, told to the engine."""

import pytest

from features.catalog import load_catalog
from features.workspace import PROJECT, Workspace
from serving import golden, rulebook

CASES = PROJECT / "serving" / "cases"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("shipped"))
    book = rulebook.load(workspace.file("rulebook.yaml"))
    return list(golden.run(CASES, load_catalog(workspace), book))


def test_every_story_ends_as_it_should(outcomes):
    assert len(outcomes) >= 25
    assert {o.story: o.differences for o in outcomes if o.differences} == {}
