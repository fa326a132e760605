"""Budgets: minutes that slide, days of the wall clock, the line of those who were denied, what a restart knows, and the gate of tasks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.scheduling import gates
from engine.scheduling.budget import DAY, DEFINITION, REQUESTS, TOKENS
from engine.scheduling.decisions import DenyBudget, GrantBudget, StartTask
from engine.scheduling.inputs import (
    BudgetCancel,
    BudgetReserve,
    BudgetRestored,
    BudgetSettle,
    DefinitionChanged,
    DefinitionRemoved,
)
from engine.scheduling.rate import DAY_MS
from tests.support.scheduling import WALL_MS, Bench, pool

MIDNIGHT_MS = WALL_MS // DAY_MS * DAY_MS


def bench(**limits: int) -> Bench:
    made = Bench()
    made.do(DefinitionChanged("goat", **limits))  # type: ignore[arg-type]
    return made


def ask(made: Bench, identifier: int, tokens: int = 1, definition: str = "goat") -> GrantBudget | DenyBudget:
    made.do(BudgetReserve(identifier, definition, tokens))
    answers: list[GrantBudget | DenyBudget] = [*made.took(GrantBudget), *made.took(DenyBudget)]
    (answer,) = answers
    assert answer.id == identifier
    return answer


def granted(made: Bench, identifier: int, tokens: int = 1) -> bool:
    return isinstance(ask(made, identifier, tokens), GrantBudget)


def denied(made: Bench, identifier: int, tokens: int = 1) -> DenyBudget:
    answer = ask(made, identifier, tokens)
    assert isinstance(answer, DenyBudget)
    return answer


# -- minutes -----------------------------------------------------------------------------------------------------------------


def test_the_third_call_of_a_minute_with_two_waits_until_the_first_is_a_minute_old() -> None:
    made = bench(requests_per_minute=2)
    assert granted(made, 1)
    made.wait(20_000)
    assert granted(made, 2)
    answer = denied(made, 3)
    assert answer.window == REQUESTS
    assert answer.until_ms is not None
    assert 0 <= answer.until_ms - (WALL_MS + 60_000) <= 100
    assert "2 requests per minute" in answer.reason
    made.wait(answer.until_ms - made.wall_ms - 1)
    assert not granted(made, 3)
    made.wait(1)
    assert granted(made, 3)


def test_a_definition_nobody_told_of_has_no_limits_and_its_use_is_counted() -> None:
    made = Bench()
    assert all(granted(made, identifier, 1000) for identifier in range(500))
    state = made.scheduler.budget("goat", made.now)
    assert [window.used for window in state.windows] == [500, 500_000, 500_000]
    assert (state.free_ms, state.under_way) == (None, 500)


def test_tokens_are_reserved_by_estimate_and_settled_by_use() -> None:
    made = bench(tokens_per_minute=100)
    assert granted(made, 1, 80)
    assert not granted(made, 2, 30)
    made.do(BudgetSettle(1, 60))
    assert granted(made, 2, 30)
    made.do(BudgetSettle(2, 45))
    state = made.scheduler.budget("goat", made.now)
    assert state.windows[1].used == 105
    assert state.under_way == 0
    assert not granted(made, 3, 1), "what was taken beyond the estimate counts"


def test_what_a_call_takes_beyond_its_estimate_counts_from_its_end() -> None:
    made = bench(tokens_per_minute=100)
    assert granted(made, 1, 10)
    made.wait(59_000)
    made.do(BudgetSettle(1, 100))
    made.wait(2_000)
    assert made.scheduler.budget("goat", made.now).windows[1].used == 90


def test_a_call_that_is_not_made_gives_back_all() -> None:
    made = bench(requests_per_minute=1, tokens_per_day=100)
    assert granted(made, 1, 100)
    assert not granted(made, 2)
    made.do(BudgetCancel(1))
    assert granted(made, 2, 100)


def test_settling_a_call_nobody_knows_changes_nothing() -> None:
    made = bench(tokens_per_minute=100)
    assert made.do(BudgetSettle(99, 100), BudgetCancel(98)) == []
    assert granted(made, 1, 100)


def test_asking_twice_under_one_id_reserves_once() -> None:
    made = bench(requests_per_minute=2)
    assert granted(made, 1)
    assert granted(made, 1)
    assert made.scheduler.budget("goat", made.now).windows[0].used == 1


def test_a_call_that_never_fits_is_denied_for_good() -> None:
    made = bench(tokens_per_minute=100, tokens_per_day=50)
    answer = denied(made, 1, 101)
    assert (answer.until_ms, answer.window) == (None, TOKENS)
    answer = denied(made, 1, 51)
    assert (answer.until_ms, answer.window) == (None, DAY)
    assert "may use 50 tokens per day" in answer.reason
    assert granted(made, 2, 50), "it stands in nobody's way"


@pytest.mark.parametrize("change", [DefinitionChanged("goat", active=False), DefinitionRemoved("goat")])
def test_a_definition_that_is_not_active_makes_no_calls(change: DefinitionRemoved) -> None:
    made = bench()
    made.do(change)
    answer = denied(made, 1)
    assert (answer.until_ms, answer.window) == (None, DEFINITION)
    made.do(DefinitionChanged("goat"))
    assert granted(made, 1)


@given(st.lists(st.tuples(st.integers(0, 30_000), st.integers(1, 40), st.integers(0, 60)), max_size=60))
def test_no_sixty_seconds_ever_see_more_than_the_limits(calls: list[tuple[int, int, int]]) -> None:
    made = bench(requests_per_minute=3, tokens_per_minute=50)
    seen: list[tuple[int, int]] = []
    for identifier, (wait_ms, tokens, real) in enumerate(calls):
        made.wait(wait_ms, wall_jump_ms=-wait_ms if identifier % 3 else 86_400_000)
        if granted(made, identifier, tokens):
            seen.append((made.mono_ns, tokens))
            minute = [one for one in seen if one[0] > made.mono_ns - 60_000_000_000]
            assert len(minute) <= 3
            assert sum(one[1] for one in minute) <= 50
            if real <= tokens:
                made.do(BudgetSettle(identifier, real))
                seen[-1] = (made.mono_ns, real)


# -- the line ----------------------------------------------------------------------------------------------------------------


def test_newcomers_do_not_pass_those_who_wait() -> None:
    made = bench(tokens_per_minute=100)
    assert granted(made, 1, 60)
    large = denied(made, 2, 90)
    assert granted(made, 3, 10) is False, "what is free is kept for the large one"
    assert large.until_ms is not None
    made.wait(large.until_ms - made.wall_ms)
    assert not granted(made, 4, 20), "also for one that comes in that very moment"
    assert granted(made, 2, 90)
    assert granted(made, 3, 10)


def test_small_ones_go_where_they_are_in_nobodys_way() -> None:
    made = bench(requests_per_minute=2, tokens_per_minute=100)
    assert granted(made, 1, 60)
    assert not granted(made, 2, 90)
    made.wait(60_100)
    assert granted(made, 3, 10), "there is room for the one that waits and for this one"
    assert granted(made, 2, 90)


def test_each_in_line_is_told_its_own_time() -> None:
    made = bench(requests_per_minute=2)
    assert granted(made, 1)
    made.wait(10_000)
    assert granted(made, 2)
    untils = [denied(made, identifier).until_ms for identifier in (3, 4, 5, 6)]
    waits = [round((until - WALL_MS) / 1000) for until in untils if until is not None]
    assert waits == [60, 70, 120, 130]


def test_a_line_is_worked_off_in_order() -> None:
    made = bench(requests_per_minute=1)
    assert granted(made, 0)
    waiting = {identifier: denied(made, identifier).until_ms for identifier in (5, 3, 9)}
    order = []
    newcomer = 100
    while waiting:
        made.wait(1_000)
        newcomer += 1
        assert not granted(made, newcomer)
        made.do(BudgetCancel(newcomer))
        for identifier, until_ms in list(waiting.items()):
            if until_ms is not None and until_ms <= made.wall_ms:
                answer = ask(made, identifier)
                if isinstance(answer, GrantBudget):
                    del waiting[identifier]
                    order.append(identifier)
                else:
                    waiting[identifier] = answer.until_ms
    assert order == [5, 3, 9]


def test_one_that_does_not_come_back_loses_its_place() -> None:
    made = bench(requests_per_minute=1)
    assert granted(made, 1)
    assert not granted(made, 2)
    made.wait(60_100)
    assert not granted(made, 3), "it is the turn of 2"
    made.wait(5_100)
    assert granted(made, 3)


def test_one_that_gives_up_leaves_the_line() -> None:
    made = bench(requests_per_minute=1)
    assert granted(made, 1)
    assert not granted(made, 2)
    assert made.scheduler.budget("goat", made.now).waiting == 1
    made.do(BudgetCancel(2))
    assert made.scheduler.budget("goat", made.now).waiting == 0
    made.wait(60_100)
    assert granted(made, 3)


def test_those_who_wait_for_tomorrow_keep_nobody_from_what_is_left_today() -> None:
    made = bench(tokens_per_day=100)
    assert granted(made, 1, 80)
    assert not granted(made, 2, 50)
    assert granted(made, 3, 20)


# -- days --------------------------------------------------------------------------------------------------------------------


def test_days_begin_at_local_midnight() -> None:
    made = Bench(day_offset_ms=7_200_000)
    made.do(DefinitionChanged("goat", tokens_per_day=100))
    assert granted(made, 1, 100)
    answer = denied(made, 2)
    assert answer.window == DAY
    assert answer.until_ms is not None
    assert (answer.until_ms + 7_200_000) % DAY_MS == 0
    assert 0 < answer.until_ms - WALL_MS <= DAY_MS
    made.wait(answer.until_ms - WALL_MS - 1)
    assert not granted(made, 2)
    made.wait(1)
    assert granted(made, 2, 100)


def test_a_clock_that_goes_forward_opens_the_new_day_and_back_gives_nothing_twice() -> None:
    made = bench(tokens_per_day=100)
    assert granted(made, 1, 90)
    made.wait(1, wall_jump_ms=DAY_MS)
    assert granted(made, 2, 80)
    made.wait(1, wall_jump_ms=-DAY_MS)
    assert not granted(made, 3, 1), "90 of this day, 80 of one that has not come yet"
    made.wait(1, wall_jump_ms=-3 * DAY_MS)
    assert not granted(made, 3, 1)
    made.wait(1, wall_jump_ms=4 * DAY_MS)
    assert granted(made, 4, 20)
    assert not granted(made, 5, 1)


def test_a_wrong_day_long_past_is_forgiven() -> None:
    made = bench(tokens_per_day=100)
    made.wait(1, wall_jump_ms=365 * DAY_MS)
    assert granted(made, 1, 100)
    made.wait(1, wall_jump_ms=-365 * DAY_MS)
    assert not granted(made, 2, 100)
    made.wait(DAY_MS + 1)
    assert granted(made, 2, 100)


# -- restarts ----------------------------------------------------------------------------------------------------------------


def reborn(made: Bench, *, later_ms: int, **limits: int) -> Bench:
    """Another engine, on the same wall clock and a monotonic one that starts anew."""
    other = Bench()
    other.wall_ms = made.wall_ms + later_ms
    other.do(DefinitionChanged("goat", **limits))  # type: ignore[arg-type]
    other.do(BudgetRestored("goat", made.scheduler.budget_buckets("goat", made.now)))
    return other


def test_counters_survive_a_restart() -> None:
    made = bench(requests_per_minute=2, tokens_per_day=100)
    made.wait(3_600_000)
    assert granted(made, 1, 30)
    assert granted(made, 2, 30)
    made.do(BudgetSettle(2, 20))
    other = reborn(made, later_ms=5_000, requests_per_minute=2, tokens_per_day=100)
    state = other.scheduler.budget("goat", other.now)
    assert [window.used for window in state.windows] == [2, 50, 50]
    assert not granted(other, 3)
    other.wait(120_000)
    assert not granted(other, 3, 60)
    assert granted(other, 4, 50)


def test_what_is_stored_goes_by_the_clock_at_that_moment() -> None:
    """The wall clock was wrong when the call was made, and right again when what is used was stored."""
    made = bench(requests_per_minute=1)
    made.wall_ms -= 90_000_000
    assert granted(made, 1)
    made.wall_ms += 90_000_000
    assert denied(reborn(made, later_ms=1_000, requests_per_minute=1), 2).window == REQUESTS


def test_a_restart_after_a_while_has_its_minute_free_and_its_day_used() -> None:
    made = bench(requests_per_minute=1, tokens_per_day=100)
    assert granted(made, 1, 100)
    other = reborn(made, later_ms=120_000, requests_per_minute=1, tokens_per_day=100)
    assert denied(other, 2).window == DAY
    assert other.scheduler.budget("goat", other.now).windows[0].used == 0


def test_what_is_stored_is_small_and_the_same_when_stored_again() -> None:
    made = bench(requests_per_minute=100_000)
    for identifier in range(3_000):
        made.wait(1_000)
        assert granted(made, identifier, 7)
    stored = made.scheduler.budget_buckets("goat", made.now)
    assert len(stored) <= 4
    assert sum(tokens for _, _, tokens in stored) == 21_000
    other = reborn(made, later_ms=0)
    other.do(BudgetCancel(0))
    assert sum(tokens for _, _, tokens in other.scheduler.budget_buckets("goat", other.now)) == 21_000


# -- tasks -------------------------------------------------------------------------------------------------------------------


def staffed(**limits: int) -> Bench:
    made = bench(**limits)
    made.serve(pool(min_idle=4, max_total=4))
    made.staff()
    return made


def test_no_more_tasks_start_than_calls_are_free_and_the_rest_say_when() -> None:
    made = staffed(requests_per_minute=2)
    for seq in range(1, 5):
        made.submit(seq)
    starts = made.took(StartTask)
    assert [start.seq for start in starts] == [1, 2]
    why = made.scheduler.explain_pool("p", made.now)
    gate = next(gate for gate in why.gates if gate.closed)
    assert (gate.name, gate.count, gate.opens_ms) == (gates.RATE, 2, None)
    assert granted(made, 1)
    assert granted(made, 2)
    why = made.scheduler.explain_pool("p", made.now)
    gate = next(gate for gate in why.gates if gate.closed)
    assert gate.opens_ms == WALL_MS + 60_000 + 100
    assert why.moving, "the time that passes opens it"
    for start in starts:
        made.end(start)
    assert made.started() == []
    made.wait(60_100)
    assert made.started() == [3, 4]


def test_a_task_that_ends_without_a_call_frees_its_place() -> None:
    made = staffed(requests_per_minute=1)
    made.submit(1)
    made.submit(2)
    (start,) = made.took(StartTask)
    made.end(start)
    assert made.started() == [2]


def test_tokens_of_a_day_hold_tasks_until_midnight_also_when_the_clock_jumps() -> None:
    made = staffed(tokens_per_day=10)
    assert granted(made, 1, 10)
    made.submit(1)
    assert made.started() == []
    gate = next(gate for gate in made.scheduler.explain_queue("q", made.now).gates if gate.closed)
    assert (gate.name, gate.opens, gate.opens_ms) == (gates.RATE, "at midnight", MIDNIGHT_MS + DAY_MS)
    made.wait(2_000, wall_jump_ms=DAY_MS)
    assert made.started() == [1]


def test_settling_opens_the_gate_again() -> None:
    made = staffed(tokens_per_minute=10)
    assert granted(made, 1, 10)
    made.submit(1)
    assert made.started() == []
    made.do(BudgetSettle(1, 3))
    assert made.started() == [1]
