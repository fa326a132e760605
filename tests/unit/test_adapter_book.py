"""The book of adapters: versions on disk and registered ones, the current one, names and digests, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.contract.definitions import ModelDefinition
from engine.contract.errors import AiwmError
from engine.inference.adapter_files import adapter_digest
from engine.inference.adapters.book import AdapterBook
from engine.inference.adapters.facts import read_facts
from engine.inference.adapters.known import Known
from engine.inference.adapters.spelling import spelled
from engine.store.store import Store
from tests.support.stored import FakeClock, open_store
from tests.support.tiny_model import tiny_config, write_adapter, write_model


class House:
    """A home with a book; `again` is the next engine on it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.shipped = home.parent / "shipped"
        self.folder = home / "adapters"
        self.models: dict[str, ModelDefinition] = {}
        (home / "adapters").mkdir(parents=True)
        self.open()

    def open(self) -> None:
        self.store: Store = open_store(self.home / "aiwm.db")
        self.book = AdapterBook(
            self.home, self.store.journal, self.store.readers, FakeClock(), self.models.get, self.shipped
        )

    async def begin(self) -> AdapterBook:
        self.book.start()
        await self.book.refresh()
        return self.book

    async def again(self) -> AdapterBook:
        await self.close()
        self.open()
        return await self.begin()

    async def close(self) -> None:
        await self.book.close()
        await self.store.close()

    def events(self, type_: str) -> list[str]:
        rows = self.store.readers._connection.execute("SELECT about FROM events WHERE type = ? ORDER BY seq", (type_,))
        return [row[0] for row in rows]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    it = House(tmp_path / "home")
    yield it
    await it.close()


def names(known: list[Known]) -> list[str]:
    return [it.name for it in known]


async def refused(book: AdapterBook, name: str, code: str, *words: str) -> None:
    with pytest.raises(AiwmError) as caught:
        await book.resolve(name)
    assert caught.value.code == code
    for word in words:
        assert word in str(caught.value), str(caught.value)


@pytest.mark.parametrize(
    ("text", "name", "version"),
    [
        ("invoice-de", "invoice-de", None),
        ("invoice-de@v4", "invoice-de", 4),
        ("a.b_c@v999999999", "a.b_c", 999_999_999),
    ],
)
def test_names_with_and_without_a_version(text: str, name: str, version: int | None) -> None:
    assert spelled(text) == (name, version)


@pytest.mark.parametrize(
    "text", ["", "base", "../x", "/x", "x@v0", "x@v01", "x@4", "x@v", "x y", "-x", "x@v1@v2", "x\n"]
)
def test_what_is_no_adapters_name(text: str) -> None:
    assert spelled(text) is None


async def test_directories_appear_by_themselves_with_numbers_and_the_first_whole_one_is_current(house: House) -> None:
    write_adapter(house.folder / "plain", seed=1)
    write_adapter(house.folder / "tone@v7", seed=2)
    book = await house.begin()
    assert names(book.versions()) == ["plain@v1", "tone@v7"]
    assert [it.current for it in book.versions()] == [True, True]
    resolved = await book.resolve("tone")
    assert (resolved.name, resolved.path) == ("tone@v7", house.folder / "tone@v7")
    assert book.names_of(resolved.digest) == {"tone", "tone@v7"}
    changed: list[None] = []
    book.on_change(lambda: changed.append(None))
    write_adapter(house.folder / "tone@v8", seed=3)
    # Nobody told the book: an unknown name makes it look.
    newer = await book.resolve("tone@v8")
    assert changed
    assert book.pinned("tone") == "tone@v7"
    assert book.names_of(newer.digest) == {"tone@v8"}
    assert house.events("adapter.found") == ["tone@v7", "plain@v1", "tone@v8"]


async def test_a_changed_plain_directory_is_the_next_version_and_the_one_before_is_no_more(house: House) -> None:
    write_adapter(house.folder / "plain", seed=1)
    book = await house.begin()
    first = await book.resolve("plain")
    write_adapter(house.folder / "plain", seed=2)
    second = await book.resolve("plain")
    assert (first.name, second.name) == ("plain@v1", "plain@v2")
    assert first.digest != second.digest
    await refused(book, "plain@v1", "adapter_not_found", "plain@v1 is no more")
    assert book.get("plain@v2").version.parent == "plain@v1"
    assert house.events("adapter.replaced") == ["plain@v2"]
    book = await house.again()
    assert (await book.resolve("plain")).name == "plain@v2"


async def test_a_numbered_directory_must_stay_what_it_was(house: House) -> None:
    write_adapter(house.folder / "tone@v3", seed=1)
    book = await house.begin()
    digest = (await book.resolve("tone@v3")).digest
    write_adapter(house.folder / "tone@v3", seed=2)
    await refused(book, "tone", "adapter_invalid", "tone@v3", "other content", digest[:12], "v4")
    book = await house.again()
    await refused(book, "tone@v3", "adapter_invalid", "other content")
    write_adapter(house.folder / "tone@v3", seed=1)
    assert (await book.resolve("tone@v3")).digest == digest


async def test_broken_directories_are_reported_by_name_with_the_reason(house: House) -> None:
    write_adapter(house.folder / "dora", use_dora=True)
    write_adapter(house.folder / "biased", bias="all")
    write_adapter(house.folder / "saved", modules_to_save=["lm_head"])
    write_adapter(house.folder / "ia3", peft_type="IA3")
    write_adapter(house.folder / "ranks", r=9)
    write_adapter(house.folder / "cut")
    cut = house.folder / "cut" / "adapter_model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-100])
    write_adapter(house.folder / "empty")
    (house.folder / "empty" / "adapter_model.safetensors").unlink()
    write_adapter(house.folder / "pickle")
    (house.folder / "pickle" / "adapter_model.safetensors").rename(house.folder / "pickle" / "adapter_model.bin")
    write_adapter(house.folder / "garbled")
    (house.folder / "garbled" / "adapter_config.json").write_text("{")
    write_adapter(house.folder / "manifest")
    (house.folder / "manifest" / "manifest.json").write_text("[]")
    write_adapter(house.folder / "pipe")
    (house.folder / "pipe" / "adapter_model.safetensors").unlink()
    os.mkfifo(house.folder / "pipe" / "adapter_model.safetensors")
    write_adapter(house.folder / "nested")
    (house.folder / "nested" / "adapter_config.json").write_text("[" * 1_000_000 + "]" * 1_000_000)
    write_adapter(house.folder / "novel")
    (house.folder / "novel" / "adapter_config.json").write_bytes(b" " * 5_000_000)
    (house.folder / "nothing").mkdir()
    (house.folder / "nothing" / "adapter_config.json").write_text("{}")
    book = await house.begin()
    reasons = {
        "dora": ("adapter_unsupported", "DoRA"),
        "biased": ("adapter_unsupported", "bias='all'"),
        "saved": ("adapter_unsupported", "modules_to_save"),
        "ia3": ("adapter_unsupported", "IA3"),
        "ranks": ("adapter_invalid", "r=9"),
        "cut": ("adapter_invalid", "cut short"),
        "empty": ("adapter_invalid", "adapter_model.safetensors"),
        "pickle": ("adapter_unsupported", "pickle"),
        "garbled": ("adapter_invalid", "not readable JSON"),
        "manifest": ("adapter_invalid", "manifest.json"),
        "pipe": ("adapter_invalid", "no readable adapter_model.safetensors"),
        "nested": ("adapter_invalid", "nested too deeply"),
        "novel": ("adapter_invalid", "more than"),
        "nothing": ("adapter_unsupported", "peft_type None"),
    }
    for name, (code, word) in reasons.items():
        await refused(book, f"{name}@v1", code, f"adapters/{name}", word)
    assert all(it.problem is not None and not it.adapter.current for it in book.versions())
    assert sorted(house.events("adapter.refused")) == sorted(f"{name}@v1" for name in reasons)
    await refused(book, "dora", "adapter_not_found", "no version that can be used")
    # Whole again, it keeps its number and is current.
    write_adapter(house.folder / "cut")
    assert (await book.resolve("cut")).name == "cut@v1"


async def test_an_adapter_that_does_not_fit_its_base_is_refused_by_name(house: House) -> None:
    model = write_model(house.home / "models" / "tiny")
    house.models["tiny"] = ModelDefinition(name="tiny", path=str(model))
    write_adapter(house.folder / "fits")
    wide = {**tiny_config(), "hidden_size": tiny_config()["hidden_size"] * 2}
    write_adapter(house.folder / "wide", wide)
    write_adapter(house.folder / "deep", {**tiny_config(), "num_hidden_layers": 99}, modules=("q_proj",))
    book = await house.begin()
    assert (await book.resolve("fits")).name == "fits@v1"
    assert book.get("fits").base == "tiny"
    await refused(book, "wide", "adapter_invalid", "another model", "where tiny has")
    await refused(book, "deep", "adapter_invalid", "tiny has 2 layers")


async def test_names_never_are_paths_and_unknown_ones_are_helped(house: House) -> None:
    write_adapter(house.folder / "french")
    book = await house.begin()
    for name, fix in (("../adapters/french", "aiwm adapter add"), ("freench", "french"), ("french@v2", "has v1")):
        with pytest.raises(AiwmError) as caught:
            await book.resolve(name)
        assert caught.value.code == "adapter_not_found"
        assert fix in str(caught.value)
    assert book.pinned("freench") == "freench"
    assert book.pinned("french@v2") == "french@v2"


async def test_registered_directories_stay_where_they_are_and_survive_the_engine(house: House, tmp_path: Path) -> None:
    book = await house.begin()
    run = write_adapter(tmp_path / "runs" / "a-31", seed=1)
    first = await book.add(run, "invoice-de", "ana")
    assert (first.name, first.current, first.version.path, first.version.by) == ("invoice-de@v1", True, str(run), "ana")
    other = write_adapter(tmp_path / "runs" / "a-32", seed=2)
    second = await book.add(other, "invoice-de", "ana", parent="invoice-de@v1")
    assert (second.name, second.current, second.version.parent) == ("invoice-de@v2", False, "invoice-de@v1")
    # The same content has a number already.
    again = write_adapter(tmp_path / "elsewhere", seed=2)
    assert (await book.add(again, "invoice-de", "ana")).name == "invoice-de@v2"
    # Trained again in place, it is not the version any more; registered again it is the next one.
    write_adapter(run, seed=3)
    await refused(book, "invoice-de", "adapter_invalid", "other content")
    assert (await book.add(run, "invoice-de", "ana")).name == "invoice-de@v3"
    await refused(book, "invoice-de@v1", "adapter_not_found", "no more")
    book = await house.again()
    assert names(book.versions("invoice-de")) == ["invoice-de@v1", "invoice-de@v2", "invoice-de@v3"]
    assert (await book.resolve("invoice-de@v2")).path == other


async def test_a_copy_does_not_need_what_it_was_made_from(house: House, tmp_path: Path) -> None:
    book = await house.begin()
    run = write_adapter(tmp_path / "run", seed=1)
    copied = await book.add(run, "invoice-de", "ana", copy=True)
    shutil.rmtree(run)
    assert copied.version.path == str(house.folder / "invoice-de@v1")
    assert (await book.resolve("invoice-de")).path == house.folder / "invoice-de@v1"
    book = await house.again()
    assert names(book.versions()) == ["invoice-de@v1"]
    assert sorted(entry.name for entry in house.folder.iterdir()) == ["invoice-de@v1"]


async def test_what_cannot_be_registered(house: House, tmp_path: Path) -> None:
    book = await house.begin()
    dora = write_adapter(tmp_path / "dora", use_dora=True)
    for path, name, code, word in (
        (dora, "x", "adapter_unsupported", "DoRA"),
        (tmp_path / "none", "x", "adapter_not_found", "none"),
        (dora, "x@v2", "bad_request", "x@v2"),
        (dora, "base", "bad_request", "reserved"),
    ):
        with pytest.raises(AiwmError) as caught:
            await book.add(path, name, "ana")
        assert caught.value.code == code
        assert word in str(caught.value)
    assert book.versions() == []


async def test_the_current_version_is_chosen_with_a_reason_and_outlives_the_engine(house: House) -> None:
    for n in (1, 2, 3):
        write_adapter(house.folder / f"tone@v{n}", seed=n)
    book = await house.begin()
    assert book.pinned("tone") == "tone@v1"
    assert await book.choose("tone@v3", "ana", "writes better") == (1, 3)
    assert book.pinned("tone") == "tone@v3"
    assert book.names_of((await book.resolve("tone@v3")).digest) == {"tone", "tone@v3"}
    assert book.names_of((await book.resolve("tone@v1")).digest) == {"tone@v1"}
    with pytest.raises(AiwmError) as caught:
        await book.choose("tone@v2", "bob", "", expected=2)
    assert caught.value.code == "conflict"
    assert "tone is v3 by now" in str(caught.value)
    book = await house.again()
    assert book.pinned("tone") == "tone@v3"
    choice = book.get("tone").adapter.choices[-1]
    assert (choice.n, choice.by, choice.reason) == (3, "ana", "writes better")
    # What a person chose stays, whatever comes.
    write_adapter(house.folder / "tone@v4", seed=4)
    await book.refresh()
    assert book.pinned("tone") == "tone@v3"
    with pytest.raises(AiwmError):
        await book.choose("tone@v9", "ana", "")
    assert house.events("adapter.current") == ["tone"]


async def test_a_homes_own_beats_what_ships_until_somebody_says_otherwise(house: House) -> None:
    write_adapter(house.shipped / "words", seed=1)
    book = await house.begin()
    assert (await book.resolve("words")).path == house.shipped / "words"
    assert house.store.readers.documents("adapter") == []
    write_adapter(house.folder / "words", seed=2)
    await book.refresh()
    assert (await book.resolve("words")).name == "words@v2"
    await book.choose("words@v1", "ana", "")
    write_adapter(house.folder / "words", seed=3)
    await book.refresh()
    assert (await book.resolve("words")).path == house.shipped / "words"


async def test_a_version_whose_directory_is_gone_says_so_and_can_be_forgotten(house: House, tmp_path: Path) -> None:
    write_adapter(house.folder / "tone@v1", seed=1)
    write_adapter(house.folder / "tone@v2", seed=2)
    book = await house.begin()
    with pytest.raises(AiwmError) as caught:
        await book.forget("tone@v2", "ana")
    assert caught.value.code == "conflict"
    shutil.rmtree(house.folder / "tone@v2")
    await refused(book, "tone@v2", "adapter_not_found", "is gone")
    with pytest.raises(AiwmError) as caught:
        await book.forget("tone@v1", "ana")
    assert "current" in str(caught.value)
    await book.forget("tone@v2", "ana")
    book = await house.again()
    assert names(book.versions()) == ["tone@v1"]
    # Moved, it is still what it was.
    (house.folder / "tone@v1").rename(house.folder / "tone")
    await book.refresh()
    assert (await book.resolve("tone")).name == "tone@v1"


async def test_a_directory_that_is_being_copied_gets_its_digest_when_it_is_whole(house: House) -> None:
    book = await house.begin()
    whole = write_adapter(house.home.parent / "whole", seed=5)
    target = house.folder / "slow@v1"
    target.mkdir()
    shutil.copy(whole / "adapter_config.json", target)
    await refused(book, "slow@v1", "adapter_invalid", "no readable adapter_model.safetensors")
    data = (whole / "adapter_model.safetensors").read_bytes()
    (target / "adapter_model.safetensors").write_bytes(data[: len(data) // 2])
    await refused(book, "slow@v1", "adapter_invalid", "cut short")
    (target / "adapter_model.safetensors").write_bytes(data)
    assert (await book.resolve("slow@v1")).name == "slow@v1"
    assert book.pinned("slow") == "slow@v1"


async def test_what_an_earlier_engine_has_read_is_not_read_whole_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_adapter(house.folder / "tone@v1", seed=1)
    book = await house.begin()
    digest = (await book.resolve("tone")).digest
    read: list[Path] = []

    def hashed(directory: Path) -> str:
        read.append(directory)
        return adapter_digest(directory)

    monkeypatch.setattr("engine.inference.adapters.scan.adapter_digest", hashed)
    book = await house.again()
    assert (await book.resolve("tone")).digest == digest
    assert read == []
    write_adapter(house.folder / "tone@v2", seed=2)
    assert (await book.resolve("tone@v2")).digest != digest
    write_adapter(house.folder / "tone@v1", seed=3)
    await refused(book, "tone@v1", "adapter_invalid", "other content")
    assert read == [house.folder / "tone@v2", house.folder / "tone@v1"]


async def test_two_directories_with_one_number_are_told_apart(house: House, tmp_path: Path) -> None:
    book = await house.begin()
    await book.add(write_adapter(tmp_path / "run", seed=1), "tone", "ana")
    write_adapter(house.folder / "tone@v1", seed=2)
    await book.refresh()
    assert house.events("adapter.twice") == ["tone@v1"]
    assert (await book.resolve("tone@v1")).path == tmp_path / "run"


def test_facts_are_read_from_headers_alone(tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a", rank=4, modules=("q_proj", "down_proj"), ranks={"q_proj": 2}, use_rslora=True)
    (path / "manifest.json").write_text(json.dumps({"license": "MIT"}))
    facts = read_facts(path)
    assert (facts.base, facts.rank, facts.alpha, facts.layers) == ("tiny", 4, 8.0, 2)
    assert facts.projections == ("down_proj", "q_proj")
    assert facts.features == ("rank_pattern", "rslora")
    assert facts.manifest == {"license": "MIT"}
    assert facts.size_bytes == (path / "adapter_model.safetensors").stat().st_size
