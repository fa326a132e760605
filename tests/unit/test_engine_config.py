"""Configuration: layers, origins, and errors that name the key."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from engine.config import Config, load_config
from engine.contract.errors import AiwmError


def test_every_shipped_value_is_a_default() -> None:
    loaded = load_config({})
    assert {setting.origin for setting in loaded.settings} == {"default"}
    assert len(loaded.settings) == sum(
        len(msgspec.to_builtins(loaded.config)[name]) for name in Config.__struct_fields__
    )


def test_the_file_overrides_the_default_and_the_environment_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[models]\nslots = 3\ncontext = 256\n")
    loaded = load_config({"AIWM_MODELS__SLOTS": "5"}, path)
    assert (loaded.config.models.slots, loaded.config.models.context) == (5, 256)
    origins = {setting.key: setting.origin for setting in loaded.settings}
    assert origins["models.slots"] == "environment"
    assert origins["models.context"] == str(path)
    assert origins["models.backoff_ms"] == "default"


@pytest.mark.parametrize(
    ("text", "field", "part"),
    [
        ("[models]\nslot = 3\n", "models.slot", 'did you mean "models.slots"?'),
        ("[modles]\nslots = 3\n", "modles", 'did you mean "models"?'),
        ('[models]\nslots = "many"\n', "models.slots", "expected `int`"),
        ("[models]\nslots = 0\n", "models.slots", "at least 1"),
        ("[scheduling]\naffinity_wait_ms = -1\n", "scheduling.affinity_wait_ms", "at least 0"),
        ("models = 3\n", "models", "is a section"),
        ("[models\n", "config", "is not TOML"),
    ],
)
def test_a_mistake_names_its_key(tmp_path: Path, text: str, field: str, part: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(AiwmError) as caught:
        load_config({}, path)
    assert caught.value.info.field == field
    assert part in str(caught.value)


def test_zero_where_it_means_something(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[scheduling]\naffinity_wait_ms = 0\n[retention]\nevents_days = 0\n")
    config = load_config({}, path).config
    assert (config.scheduling.affinity_wait_ms, config.retention.events_days) == (0, 0)
