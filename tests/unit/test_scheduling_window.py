"""The paged window: always the first rows of an order of which most is on disk, whatever comes, goes, or is being read."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.scheduling.inputs import BOTTOM, Key
from engine.scheduling.window import Window

Row = tuple[int, int, str]


def row(key: int, seq: int) -> Row:
    return key, seq, f"item {seq}"


def filled(limit: int, count: int) -> Window[str]:
    window: Window[str] = Window(limit)
    for seq in range(count):
        window.add(row(seq, seq))
    return window


def test_rows_come_out_in_order_of_key_then_seq() -> None:
    window: Window[str] = Window(10)
    for key, seq in [(5, 1), (3, 2), (5, 0), (4, 9)]:
        assert window.add(row(key, seq)) is None
    assert [window.pop()[:2] for _ in range(len(window))] == [(3, 2), (4, 9), (5, 0), (5, 1)]
    assert window.first() is None


def test_the_row_with_the_largest_key_is_left_to_the_disk_when_the_window_is_full() -> None:
    window = filled(3, 3)
    assert window.add(row(1, 7)) == row(2, 2)
    assert (len(window), window.edge, window.beyond) == (3, (1, 7), 1)
    assert window.add(row(2, 1)) == row(2, 1), "beyond the edge there may be others on disk, so it must not be held"
    assert window.beyond == 2


def test_removing_takes_exactly_that_row() -> None:
    window = filled(10, 5)
    window.pop()
    assert not window.remove(0, 0), "it has been taken"
    assert not window.remove(2, 3), "no such key"
    assert window.remove(3, 3)
    assert [entry[1] for entry in window.rows()] == [1, 2, 4]
    assert window.holds(4, 4)
    assert not window.holds(3, 3)
    assert window.before(4, 4) == 2


def test_a_row_told_of_while_a_page_is_read_is_not_lost() -> None:
    window: Window[str] = Window(4, unknown=True)
    assert window.wants_page()
    assert window.begin_load(1)[0] == BOTTOM
    assert not window.wants_page()
    assert window.add(row(5, 5)) == row(5, 5)
    late = window.end_load(0, None)
    assert late == [row(5, 5)]
    assert window.edge is None
    assert window.beyond == 0


def test_more_late_rows_than_there_is_room_for_make_another_page_necessary() -> None:
    window: Window[str] = Window(2, unknown=True)
    window.begin_load(1)
    for seq in (9, 8, 7, 3):
        window.add(row(seq, seq))
    late = window.end_load(0, None)
    assert [entry[1] for entry in late] == [9, 8]
    assert window.edge is not None
    assert window.edge < (3, 3), "3 was told of and not kept, so it must be read"


def test_a_page_that_starts_after_rows_pushed_out_meanwhile_does_not_count() -> None:
    window = filled(2, 3)
    window.pop()
    window.pop()
    assert window.begin_load(4)[0] == (1, 1)
    window.add(row(0, 10))
    window.add(row(0, 11))
    window.add(row(0, 12))
    assert window.load == 0
    assert window.edge == (0, 11)


def test_pages_start_small_and_grow_while_their_rows_are_used() -> None:
    window: Window[str] = Window(512, unknown=True)
    sizes = []
    for load in range(1, 7):
        after, size = window.begin_load(load)
        sizes.append(size)
        window.end_load(size, (load, 0))
        assert after < (load, 0)
    assert sizes == [32, 64, 128, 256, 256, 256]
    window.forget()
    assert window.begin_load(9) == (BOTTOM, 32)


class Paging(RuleBasedStateMachine):
    """A window, the disk behind it, and reads that show the disk as it was some time before they arrive."""

    @initialize(limit=st.integers(1, 6), on_disk=st.lists(st.integers(-3, 3), max_size=12))
    def begin(self, limit: int, on_disk: list[int]) -> None:
        self.disk: set[Key] = {(key, seq) for seq, key in enumerate(on_disk)}
        self.next_seq = len(on_disk)
        self.window: Window[str] = Window(limit, unknown=True)
        self.page: list[Key] | None = None
        self.size = 0

    @rule(key=st.integers(-4, 4))
    def add(self, key: int) -> None:
        self.disk.add((key, self.next_seq))
        left = self.window.add(row(key, self.next_seq))
        assert left is None or left[:2] in self.disk
        self.next_seq += 1

    @precondition(lambda self: self.window.first() is not None)
    @rule()
    def take_the_first(self) -> None:
        first = self.window.pop()[:2]
        assert first == min(self.disk)
        self.disk.remove(first)

    @precondition(lambda self: self.disk)
    @rule(data=st.data())
    def remove_any(self, data: st.DataObject) -> None:
        gone = data.draw(st.sampled_from(sorted(self.disk)))
        held = gone in [entry[:2] for entry in self.window.rows()]
        assert self.window.remove(*gone) == held
        self.disk.remove(gone)
        # Whoever ends a row that is not in memory finds it in a page that is older: the store's fence is there for that.
        self.page = None if self.page is None else [key for key in self.page if key != gone]
        self.window.late = [entry for entry in self.window.late if entry[:2] != gone]

    @precondition(lambda self: self.window.edge is not None and not self.window.load)
    @rule()
    def read(self) -> None:
        after, self.size = self.window.begin_load(1)
        self.page = sorted(key for key in self.disk if key > after)

    @precondition(lambda self: self.window.load and self.page is not None)
    @rule()
    def arrive(self) -> None:
        assert self.page is not None
        rows, more = self.page[: self.size], len(self.page) > self.size
        self.page = None
        late = self.window.end_load(len(rows), rows[-1] if more and rows else None)
        known = {entry[:2] for entry in self.window.rows()}
        for key in [*rows, *(entry[:2] for entry in late)]:
            if key not in known:
                known.add(key)
                self.window.add(row(*key))

    @rule()
    def forget(self) -> None:
        self.window.forget()

    @invariant()
    def holds_all_up_to_the_edge_and_no_more_than_allowed(self) -> None:
        if not hasattr(self, "window"):
            return
        held = [entry[:2] for entry in self.window.rows()]
        edge = self.window.edge
        assert held == sorted(key for key in self.disk if edge is None or key <= edge)
        assert len(held) <= self.window.limit
        assert len(self.window.late) <= self.window.limit


TestPaging = Paging.TestCase
TestPaging.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), max_size=80), st.integers(1, 8))
def test_a_window_that_is_never_full_is_a_sorted_list(steps: list[tuple[int, bool]], spare: int) -> None:
    window: Window[str] = Window(len(steps) + spare)
    model: list[Key] = []
    for seq, (key, take) in enumerate(steps):
        if take and model:
            assert window.pop()[:2] == model.pop(0)
        else:
            assert window.add(row(key, seq)) is None
            model = sorted([*model, (key, seq)])
    assert [entry[:2] for entry in window.rows()] == model
    assert window.edge is None
