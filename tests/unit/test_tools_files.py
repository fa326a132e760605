"""Data sources, the file store and the file tools on a real home."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.contract.definitions import DataSource, SourceType
from engine.contract.errors import AiwmError, Code
from engine.home import make_home
from engine.tools.catalogue import ListFiles, ReadFile, SearchFiles, WriteFile
from engine.tools.files import FileTools, View
from engine.tools.filestore import FileStore
from engine.tools.sources import Sources, check_source, parse_uri, problem_of
from engine.tools.sync import sync

VIEW = View(sources=("docs", "more"), area="tasks/t-1")


class World:
    """A home with data, a directory outside that is listed, and one that is not."""

    def __init__(self, tmp_path: Path, *, quota: int = 10_000) -> None:
        self.home = tmp_path / "home"
        self.listed, self.unlisted = tmp_path / "listed", tmp_path / "unlisted"
        make_home(self.home)
        for folder in (self.home / "files/docs/deep", self.listed / "sub", self.unlisted):
            folder.mkdir(parents=True)
        for path, text in (
            (self.home / "files/docs/a.md", "alpha\nbeta"),
            (self.home / "files/docs/b.py", "print()"),
            (self.home / "files/docs/deep/c.md", "gamma Beta"),
            (self.listed / "sub/x.txt", "from outside"),
            (self.unlisted / "y.txt", "SECRET"),
        ):
            path.write_text(text)
        self.store = FileStore(self.home, 1_000_000)
        self.defined: dict[str, DataSource] = {}
        self.define("docs", path="docs", recursive=True, filters=("*.md",))
        self.define("more", path=str(self.listed), external=True, recursive=True)
        self.sources = Sources(self.home, [str(self.listed)], self.store, lambda: self.defined)
        self.tools = FileTools(self.home, self.sources, max_file_bytes=1000, quota_bytes=quota)

    def define(self, name: str, **fields: object) -> DataSource:
        self.defined[name] = DataSource(name=name, **fields)  # type: ignore[arg-type]
        return self.defined[name]

    def problem(self, source: DataSource) -> str:
        return problem_of(source, self.home, [str(self.listed)])

    def files(self, name: str) -> list[str]:
        return [file.id for file in self.sources.files(self.defined[name])[0]]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def _refused(code: Code, what: object, *arguments: object) -> AiwmError:
    with pytest.raises(AiwmError) as refused:
        what(*arguments)  # type: ignore[operator]
    assert refused.value.code == code, refused.value
    return refused.value


def test_globs_and_depth_decide_what_a_source_shows(world: World) -> None:
    assert world.files("docs") == ["a.md", "deep/c.md"]
    world.define("docs", path="docs", filters=("*.md",))
    assert world.files("docs") == ["a.md"]
    world.define("docs", path="docs", recursive=True, filters=("deep/*",))
    assert world.files("docs") == ["deep/c.md"]
    world.define("docs", path="docs")
    assert world.files("docs") == ["a.md", "b.py"]


def test_what_a_source_hides_cannot_be_read_by_name(world: World) -> None:
    source = world.defined["docs"]
    assert world.sources.read(source, "deep/c.md", 100) == b"gamma Beta"
    _refused(Code.file_not_found, world.sources.read, source, "b.py", 100)
    world.define("docs", path="docs")
    _refused(Code.file_not_found, world.sources.read, world.defined["docs"], "deep/c.md", 100)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"path": "/etc", "external": True}, Code.path_violation),
        ({"path": "../home"}, Code.path_violation),
        ({"path": "/srv/../etc", "external": True}, Code.path_violation),
        ({"path": ""}, Code.definition_invalid),
        ({"path": "a\0b"}, Code.definition_invalid),
        ({"path": "docs", "target": "docs"}, Code.definition_invalid),
        ({"path": "docs", "target": "fm:/../x"}, Code.path_violation),
        ({"path": "docs", "filters": ("../*",)}, Code.definition_invalid),
        ({"path": "docs", "filters": ("",)}, Code.definition_invalid),
        ({"path": "docs", "type": SourceType.file_store}, Code.definition_invalid),
        ({"path": "fm:/a/../b", "type": SourceType.file_store}, Code.path_violation),
    ],
)
def test_a_source_that_could_never_be_used_is_refused(fields: dict[str, object], code: Code) -> None:
    source = DataSource(name="s", **fields)  # type: ignore[arg-type]
    _refused(code, check_source, source, Path("/home/me/aiwm"), ["/srv"])


def test_outside_the_home_only_listed_directories_and_only_when_marked(world: World) -> None:
    inside = str(world.listed / "sub")
    assert world.problem(DataSource(name="s", path=inside, external=True)) == ""
    assert "not marked as external" in world.problem(DataSource(name="s", path=inside))
    assert "config.toml" in world.problem(DataSource(name="s", path=str(world.unlisted), external=True))
    # A name that only begins like a listed one is another directory.
    twin = world.listed.with_name("listed-twin")
    twin.mkdir()
    assert "config.toml" in world.problem(DataSource(name="s", path=str(twin), external=True))


def test_no_listed_directory_shows_the_home_itself(world: World) -> None:
    around = str(world.home.parent)
    for path in (around, str(world.home), str(world.home / "logs"), str(world.home.parent.parent)):
        source = DataSource(name="s", path=path, external=True, recursive=True)
        error = _refused(Code.path_violation, check_source, source, world.home, [around, str(Path(around).parent)])
        assert "home itself" in error.info.message
    link = world.home.parent / "link"
    link.symlink_to(world.home)
    source = DataSource(name="s", path=around, external=True)
    _refused(Code.path_violation, check_source, source, link, [around])
    inside = DataSource(name="s", path=str(link / "files/docs"))
    check_source(inside, link, [])
    assert Sources(link, [], world.store, dict).files(inside)[0][0].id == "a.md"


def test_a_link_beneath_a_listed_root_does_not_open_another_place(world: World) -> None:
    (world.listed / "door").symlink_to(world.unlisted)
    source = world.define("door", path=str(world.listed / "door"), external=True)
    assert "symbolic link" in world.problem(source)
    _refused(Code.source_unusable, world.sources.read, source, "y.txt", 100)
    assert world.files("more") == ["sub/x.txt"]


def test_a_source_that_lost_its_leave_is_unusable_and_says_why(world: World) -> None:
    strict = Sources(world.home, [], world.store, lambda: world.defined)
    error = _refused(Code.source_unusable, strict.read, world.defined["more"], "sub/x.txt", 100)
    assert 'data source "more" cannot be used' in error.info.message


def test_addresses(world: World) -> None:
    assert parse_uri("datasource://docs/deep/c.md") == ("docs", "deep/c.md")
    for bad in ("datasource://", "datasource:///x", "file://docs/x"):
        _refused(Code.path_violation, parse_uri, bad)


def test_reading_by_address_only_from_sources_in_force(world: World) -> None:
    perform = world.tools.perform
    assert perform(VIEW, ReadFile(path="datasource://docs/a.md")) == "alpha\nbeta"
    _refused(Code.denied, perform, View(sources=("more",), area="tasks/t-1"), ReadFile(path="datasource://docs/a.md"))
    _refused(Code.path_violation, perform, VIEW, ReadFile(path="datasource://docs/../../y"))
    _refused(Code.path_violation, perform, VIEW, ReadFile(path="../docs/a.md"))
    _refused(Code.path_violation, perform, VIEW, ReadFile(path="/etc/passwd"))


def test_a_bare_name_is_looked_for_in_the_own_area_then_in_the_sources_in_order(world: World) -> None:
    perform = world.tools.perform
    assert perform(VIEW, ReadFile(path="a.md")) == "alpha\nbeta"
    (world.listed / "a.md").write_text("the second")
    assert perform(VIEW, ReadFile(path="a.md")) == "alpha\nbeta"
    assert perform(View(sources=("more", "docs"), area="tasks/t-1"), ReadFile(path="a.md")) == "the second"
    perform(VIEW, WriteFile(path="a.md", content="mine"))
    assert perform(VIEW, ReadFile(path="a.md")) == "mine"
    assert perform(View(sources=("docs",), area="tasks/t-2"), ReadFile(path="a.md")) == "alpha\nbeta"
    _refused(Code.file_not_found, perform, VIEW, ReadFile(path="none.md"))


def test_listing_and_searching_show_the_same_files(world: World) -> None:
    perform = world.tools.perform
    perform(VIEW, WriteFile(path="notes/n.txt", content="my beta"))
    assert perform(VIEW, ListFiles()).splitlines() == [
        "notes/n.txt",
        "datasource://docs/a.md",
        "datasource://docs/deep/c.md",
        "datasource://more/sub/x.txt",
    ]
    assert perform(VIEW, ListFiles(path="deep")) == "datasource://docs/deep/c.md"
    assert perform(VIEW, ListFiles(path="datasource://more")) == "datasource://more/sub/x.txt"
    _refused(Code.denied, perform, VIEW, ListFiles(path="datasource://other"))
    assert perform(VIEW, SearchFiles(query="BETA")).splitlines() == [
        "notes/n.txt:1: my beta",
        "datasource://docs/a.md:2: beta",
        "datasource://docs/deep/c.md:1: gamma Beta",
    ]
    assert "no line" in perform(VIEW, SearchFiles(query="omega"))


@pytest.mark.parametrize("path", ["datasource://docs/new.md", "fm:/x", "../t-2/x", "/tmp/x", "", "a/", "x\0y"])
def test_writes_stay_in_the_own_area(world: World, path: str) -> None:
    before = sorted(str(found) for found in world.home.rglob("*"))
    _refused(Code.path_violation, world.tools.perform, VIEW, WriteFile(path=path, content="x"))
    assert sorted(str(found) for found in world.home.rglob("*")) == before


def test_a_link_put_into_the_area_leads_no_write_out(world: World) -> None:
    area = world.home / "files/tasks/t-1"
    area.mkdir(parents=True)
    (area / "out").symlink_to(world.unlisted)
    _refused(Code.path_violation, world.tools.perform, VIEW, WriteFile(path="out/y.txt", content="owned"))
    assert (world.unlisted / "y.txt").read_text() == "SECRET"


def test_the_quota_counts_what_is_there(tmp_path: Path) -> None:
    world = World(tmp_path, quota=1000)
    write = world.tools.perform
    write(VIEW, WriteFile(path="a", content="x" * 600))
    _refused(Code.quota_exceeded, write, VIEW, WriteFile(path="b", content="x" * 600))
    write(VIEW, WriteFile(path="a", content="x" * 300))
    write(VIEW, WriteFile(path="b", content="x" * 600))
    _refused(Code.quota_exceeded, write, View(sources=(), area="tasks/t-2"), WriteFile(path="c", content="x" * 200))
    (world.home / "files/tasks/t-1/b").unlink()
    write(VIEW, WriteFile(path="c", content="x" * 200))
    _refused(Code.file_too_large, write, VIEW, WriteFile(path="d", content="x" * 1001))


def test_a_file_that_is_no_text_is_not_given_to_a_model(world: World) -> None:
    (world.listed / "sub/picture").write_bytes(b"\x89PNG\0\0")
    _refused(Code.file_unreadable, world.tools.perform, VIEW, ReadFile(path="datasource://more/sub/picture"))


def test_a_sync_copies_what_changed_and_says_what_it_did(world: World) -> None:
    for name in ("1.txt", "2.txt", "3.txt"):
        (world.listed / name).write_text(f"content {name}")
    source = world.define("in", path=str(world.listed), external=True, filters=("*.txt",), target="fm:/copied")
    first = sync(world.sources, source, 1000)
    assert (first.copied, first.skipped, first.failed) == (["1.txt", "2.txt", "3.txt"], [], [])
    (world.listed / "2.txt").write_text("content 9.txt")  # as long as before
    (world.listed / "big.txt").write_text("x" * 2000)
    second = sync(world.sources, source, 1000)
    assert (second.copied, second.skipped) == (["2.txt"], ["1.txt", "3.txt"])
    assert [(failure.path, failure.error.code) for failure in second.failed] == [("big.txt", Code.file_too_large)]
    stored = world.define("out", path="fm:/copied", type=SourceType.file_store)
    assert world.files("out") == ["1.txt", "2.txt", "3.txt"]
    assert world.sources.read(stored, "2.txt", 100) == b"content 9.txt"
    again = FileStore(world.home, 1_000_000)
    assert again.read("copied/2.txt", 100) == b"content 9.txt", "it outlasts the engine"


def test_equal_contents_are_kept_once_and_forgotten_ones_not_at_all(world: World) -> None:
    world.store.put({"a": (b"same", 1), "b": (b"same", 2), "c": (b"other", 3)})
    blobs = world.home / "filestore/blobs"
    assert len([path for path in blobs.rglob("*") if path.is_file()]) == 2
    world.store.put({"c": (b"new", 4)})
    assert sorted(path.read_bytes() for path in blobs.rglob("*") if path.is_file()) == [b"new", b"same"]


def test_a_full_store_takes_all_or_nothing(tmp_path: Path, world: World) -> None:
    store = FileStore(world.home, 10)
    _refused(Code.quota_exceeded, store.put, {"a": (b"123456", 1), "b": (b"789012", 1)})
    assert store.files() == []
    store.put({"a": (b"1234567890", 1), "b": (b"1234567890", 1)})


def test_damaged_content_is_not_given_out(world: World) -> None:
    world.store.put({"a": (b"true", 1)})
    (blob,) = [path for path in (world.home / "filestore/blobs").rglob("*") if path.is_file()]
    os.chmod(blob, 0o600)
    blob.write_bytes(b"fals")
    _refused(Code.file_unreadable, world.store.read, "a", 100)
    world.store.put({"a": (b"true", 1)})
    assert world.store.read("a", 100) == b"true", "putting it again heals it"
    blob.unlink()
    _refused(Code.file_unreadable, world.store.read, "a", 100)
    _refused(Code.file_not_found, world.store.read, "a", 100)
