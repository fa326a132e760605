"""What a task may use, and which level gave it: the pure resolution against its rules and against generated levels."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.scheduling.context import ADDED, FIRST, Level, LevelName, resolve

EVERYTHING = frozenset("abcdefgh")


def _six(**sources: str) -> list[Level]:
    """A level of each name, in no useful order; the sources as letters."""
    return [
        Level(level=level, name=f"the {level}", sources=tuple(sources.get(level, "")), supervisor=f"{level}-sai")
        for level in reversed(LevelName)
    ]


def test_each_level_adds_its_sources_in_the_order_of_levels() -> None:
    levels = _six(definition="a", queue="b", pool="c", instance="d", template="e", task="f")
    effective = resolve(levels, EVERYTHING)
    assert effective.names == ("a", "b", "c", "d", "e", "f")
    assert [given.level for given in effective.sources] == list(LevelName)
    assert effective.sources[3].name == "the instance"


def test_a_source_named_twice_counts_once_by_its_first_level() -> None:
    effective = resolve(_six(definition="ab", queue="ba", task="b"), EVERYTHING)
    assert effective.names == ("a", "b")
    assert effective.sources[1].level is LevelName.definition
    assert effective.sources[1].also == (LevelName.queue, LevelName.task)


def test_level_by_level_the_effective_supervisor_moves_one_step() -> None:
    levels = _six()
    for level in FIRST:
        found = resolve(levels, EVERYTHING).supervisor
        assert found is not None
        assert (found.value, found.level) == (f"{level}-sai", level)
        assert found.over == FIRST[FIRST.index(level) + 1 :]
        levels = [it for it in levels if it.level is not level]
    assert resolve(levels, EVERYTHING).supervisor is None


def test_an_unknown_source_is_said_and_not_used() -> None:
    effective = resolve(_six(definition="a", task="z"), EVERYTHING)
    assert effective.names == ("a",)
    assert [(given.value, given.level) for given in effective.unknown] == [("z", LevelName.task)]


def test_what_the_principal_may_not_use_is_withheld() -> None:
    effective = resolve(_six(definition="ab", task="c"), EVERYTHING, ceiling={"b"})
    assert effective.names == ("b",)
    assert [given.value for given in effective.withheld] == ["a", "c"]
    assert resolve(_six(definition="ab"), EVERYTHING, ceiling=frozenset()).names == ()


_levels = st.lists(
    st.builds(
        Level,
        level=st.sampled_from(LevelName),
        name=st.sampled_from(["x", "y"]),
        sources=st.lists(st.sampled_from("abcdefghyz"), max_size=5).map(tuple),
        supervisor=st.sampled_from(["", "", "s", "t"]),
    ),
    max_size=6,
    unique_by=lambda level: level.level,
)


@given(_levels, st.sets(st.sampled_from("abcdefgh")), st.none() | st.sets(st.sampled_from("abcdefgh")))
def test_nothing_is_lost_doubled_or_made_up(levels: list[Level], known: set[str], ceiling: set[str] | None) -> None:
    effective = resolve(levels, known, ceiling)
    named = {source for level in levels for source in level.sources}
    parts = [[given.value for given in group] for group in (effective.sources, effective.unknown, effective.withheld)]
    assert sorted(value for part in parts for value in part) == sorted(named)
    assert set(parts[0]) == {source for source in named if source in known and (ceiling is None or source in ceiling)}
    assert set(parts[1]) == named - known
    order = [ADDED.index(given.level) for given in effective.sources]
    assert order == sorted(order)
    by_level = {level.level: level for level in levels}
    for one in effective.sources:
        saying = [level for level in ADDED if level in by_level and one.value in by_level[level].sources]
        assert (one.level, *one.also) == tuple(saying)
    wanted = next((level for level in FIRST if level in by_level and by_level[level].supervisor), None)
    assert (effective.supervisor.level if effective.supervisor else None) == wanted


@given(_levels, st.sets(st.sampled_from("abcdefgh")))
def test_a_ceiling_only_takes_away(levels: list[Level], ceiling: set[str]) -> None:
    without = resolve(levels, EVERYTHING)
    bounded = resolve(levels, EVERYTHING, ceiling)
    assert set(bounded.names) <= set(without.names) & ceiling
    assert bounded.supervisor == without.supervisor
