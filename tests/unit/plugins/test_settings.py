# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings in every form that surveys, extra variables and inventories give them in."""

from __future__ import annotations

import itertools
import pathlib
import typing as t

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.whatsapp_ops.sessions.plugins.filter.setting import setting
from ansible_collections.whatsapp_ops.sessions.plugins.plugin_utils._settings import complaint, is_given

COLLECTION = pathlib.Path(__file__).resolve().parents[3]
OPTIONS: dict[str, dict[str, t.Any]] = {
    name: option
    for spec in COLLECTION.glob("playbooks/argument_specs/*.yml")
    for entry in yaml.safe_load(spec.read_text())["argument_specs"].values()
    for name, option in entry["options"].items()
}
# For each type the forms in which one value may come.
FORMS: dict[str, list[tuple[t.Any, list[t.Any]]]] = {
    "bool": [
        (True, [True, "true", "Yes", "on", "1", 1, "y", " true "]),
        (False, [False, "false", "NO", "off", "0", 0]),
    ],
    "int": [(5, [5, "5", " 5 ", 5.0])],
    "float": [(0.5, [0.5, "0.5"]), (3.0, [3, "3"])],
    "list": [
        (
            ["/a", "/b c"],
            [["/a", "/b c"], "/a\n/b c\n", "\n  /a\n\n/b c", '["/a", "/b c"]', "[/a, /b c]", "- /a\n- /b c\n"],
        ),
        (["0150"], ["0150", "[0150]", "- 0150"]),
        ([], [[], "\n", "[]"]),
    ],
    "dict": [
        ({"a.b": 1}, [{"a.b": 1}, '{"a.b": 1}', "a.b: 1", "{a.b: 1}"]),
        ({"a": "1", "b": "2"}, ["a=1, b=2"]),
        ({}, [{}, "{}"]),
    ],
}
WRONG = {
    "bool": ["maybe", 2, []],
    "int": ["5%", "x", 1.5, True, "inf"],
    "float": ["fast", "nan"],
    "list": [{"a": 1}],
    "dict": ["a", ["a"], "- a"],
    "str": [["a"], {}, "  "],
    "path": [["/a"]],
}


@pytest.mark.parametrize(
    ("kind", "form", "value"),
    [(kind, form, value) for kind, values in FORMS.items() for value, forms in values for form in forms],
)
def test_every_form_of_a_value_is_read(kind: str, form: t.Any, value: t.Any) -> None:
    read = setting(form, kind)
    assert (read, type(read)) == (value, type(value))
    assert complaint("wa_x", form, {"type": kind}) == ""


@pytest.mark.parametrize(("kind", "form"), [(kind, form) for kind, forms in WRONG.items() for form in forms])
def test_what_cannot_be_meant_is_said_in_one_clause(kind: str, form: t.Any) -> None:
    assert complaint("wa_x", form, {"type": kind}).startswith("wa_x is not ")


@pytest.mark.parametrize("kind", ["bool", "int", "float", "list", "dict"])
@pytest.mark.parametrize("nothing", [None, ""])
def test_null_and_an_empty_text_are_left_out(kind: str, nothing: t.Any) -> None:
    assert setting(nothing, kind, default="the default") == "the default"
    assert not is_given(nothing)


def test_a_filter_that_is_given_nonsense_says_what_it_should_be() -> None:
    with pytest.raises(AnsibleFilterError, match="true or false"):
        setting("maybe", "bool")


def test_a_choice_is_named_with_those_that_there_are() -> None:
    option = {"type": "str", "choices": ["native", "rsync"]}
    assert complaint("wa_engine", "fast", option) == "wa_engine is 'fast', but must be one of native, rsync"
    assert complaint("wa_engine", "rsync", option) == ""


def test_every_setting_of_every_playbook_can_be_given_as_text() -> None:
    texts = {
        kind: [form for form in itertools.chain(*(forms for _value, forms in values)) if isinstance(form, str)]
        for kind, values in FORMS.items()
    }
    for name, option in OPTIONS.items():
        kind = option["type"]
        assert kind in (*FORMS, "str", "path", "raw"), name
        for text in option.get("choices") or texts.get(kind, ["text"]):
            assert complaint(name, text, option) == ""


def test_every_setting_that_is_no_text_is_read_by_each_role_that_has_it() -> None:
    """A role may be used alone: an empty text, which is false in Jinja, would turn off what is on by default."""
    for defaults in COLLECTION.glob("roles/*/defaults/main.yml"):
        for default in yaml.safe_load(defaults.read_text()).values():
            for name in (name for name, option in OPTIONS.items() if f"{{{{ {name} |" in str(default)):
                if OPTIONS[name]["type"] in ("bool", "list", "dict"):
                    assert f"default(none) | whatsapp_ops.sessions.setting('{OPTIONS[name]['type']}'" in default, (
                        default
                    )
                else:
                    assert "default(none)" in default or ", true)" in default, default
