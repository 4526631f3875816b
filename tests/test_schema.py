"""The JSON Schema of studies and recipes agrees with what reads them."""

import re

import pytest
import yaml
from conftest import ROOT
from jsonschema import Draft202012Validator

from mae_ablation.cli import main
from mae_ablation.study.schema import recipe_schema, study_schema

STUDIES = sorted((ROOT / "studies").glob("*.yaml"))
RECIPES = sorted((ROOT / "studies" / "recipes").glob("*.yaml"))


class Yaml12(yaml.SafeLoader):
    """Reads numbers as editors do, which follow YAML 1.2: 1e-3 is one."""


Yaml12.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if not tag.endswith(("float", "timestamp"))]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
NUMBER = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?$")
Yaml12.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+.0123456789"))


def slips(schema, text):
    """Lists what an editor marks in a text."""
    errors = Draft202012Validator(schema).iter_errors(yaml.load(text, Yaml12))
    return [error.message for error in errors]


@pytest.mark.parametrize("path", STUDIES + RECIPES, ids=lambda path: path.stem)
def test_every_file_that_ships_is_valid_and_names_its_schema(path):
    kind = "recipe" if path in RECIPES else "study"
    schema = {"recipe": recipe_schema, "study": study_schema}[kind]()
    text = path.read_text(encoding="utf-8")
    assert not slips(schema, text)
    assert text.startswith(f"# yaml-language-server: $schema={kind}.schema.json\n")


@pytest.mark.parametrize("kind", ["study", "recipe"])
def test_the_schema_that_ships_is_that_of_this_version(kind, capsys):
    """Written again by: mae-ablation schema study > studies/study.schema.json (or recipe)."""
    assert main(["schema", kind]) == 0
    folder = ROOT / "studies" / ("recipes" if kind == "recipe" else "")
    assert (folder / f"{kind}.schema.json").read_text(encoding="utf-8") == capsys.readouterr().out


@pytest.mark.parametrize(
    "slip",
    [
        "factor: {mask_ratio: [0.5]}",
        "factors: {mask_rato: [0.5]}",
        "factors: {mask_ratio: [half]}",
        "factors: {how: {one: {mask_rato: 0.5}}}",
        "factors: {mask_sampling: [randm]}",
        "{factors: {mask_ratio: [0.5]}, seeds: 0}",
        "{factors: {mask_ratio: [0.5]}, seeds: {frist: 3}}",
        "{factors: {mask_ratio: [0.5]}, margin: 0}",
        "{factors: {mask_ratio: [0.5]}, phases: [pretrain, finetun]}",
        "{studies: [mask_ratio], factors: {mask_ratio: [0.5]}}",
    ],
)
def test_a_slip_in_a_study_is_marked(slip):
    assert slips(study_schema(), slip)


@pytest.mark.parametrize(
    "slip", ["pretran: {epochs: 2}", "pretrain: {epochs: two}", "skip: [pretrain]"]
)
def test_a_slip_in_a_recipe_is_marked(slip):
    assert slips(recipe_schema(), slip)
