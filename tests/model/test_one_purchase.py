"""The model of one purchase: what ships has no counter-example, every bad policy has one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.model.checker import Search, explore
from tests.model.purchase import (
    BAD,
    BLIND,
    CLAIMS,
    LOSSY,
    OURS,
    SPOILT,
    At,
    Policy,
    Step,
    World,
    find_problem,
    list_steps,
    normalize,
)
from wxpay_async.policy.states import State


@pytest.fixture(scope="module")
def ours() -> Search[World]:
    """Search once what ships."""
    return search(OURS)


def search(policy: Policy) -> Search[World]:
    """Visit every world that a policy can reach."""

    def children(world: World) -> Iterator[Step]:
        return ((label, normalize(after, policy)) for label, after in list_steps(world, policy))

    return explore(World(), children, find_problem)


@pytest.mark.slow
def test_shipped_policy_keeps_every_invariant(ours: Search[World]) -> None:
    """No interleaving executes twice, or reports what is not so."""
    print(f"\nours: {len(ours.worlds)} states, none of them bad")  # noqa: T201 - the figure

    assert ours.problem is None, "\n".join(ours.path)


@pytest.mark.slow
def test_search_is_not_vacuous(ours: Search[World]) -> None:
    """The search meets every state but those of other models, callers that hear both, resends."""
    rows = [world.row for world in ours.worlds]

    other = {"conflict", "reissued"}  # of spoilt answers, and of payments
    assert set(State) - other == {row.state for row in rows}
    assert {"ok", "no"} == {word for world in ours.worlds for _, word in world.told}
    assert any(row.state is State.SUCCEEDED and row.claims == CLAIMS for row in rows)
    assert any(row.state is State.SUCCEEDED and row.generation for row in rows)
    reserved = [row for row in rows if row.known and not row.claims]
    assert reserved, "some wait for their turn between the reservation and the claim"
    assert len(rows) > 50_000


@pytest.mark.slow
def test_one_spoilt_answer_of_a_query_settles_nothing() -> None:
    """It is a conflict only when the same is seen again, a minute later."""
    found = search(SPOILT)

    assert found.problem is None, "\n".join(found.path)
    assert any(world.spoilt and world.row.state is State.SUCCEEDED for world in found.worlds)


@pytest.mark.slow
def test_claim_whose_answer_is_lost_locks_nobody_out() -> None:
    """Its worker finds its own claim by the token and sends, or gives it back.

    One that claimed with its reservation gives it back.
    """
    found = search(LOSSY)

    assert found.problem is None, "\n".join(found.path)
    lost = [world for world in found.worlds if any(w.at == At.LOST for w in world.workers)]
    assert any(world.row.claims == CLAIMS for world in lost)
    unsure = [world for world in found.worlds if any(w.at == At.UNSURE for w in world.workers)]
    assert any(world.row.claims == CLAIMS for world in unsure)


@pytest.mark.slow
def test_callback_settles_what_no_query_finds() -> None:
    """A refund that is in doubt, and is found by no query, ends by the callback's word."""
    found = search(BLIND)

    assert found.problem is None, "\n".join(found.path)
    settled = {world.row.state for world in found.worlds if world.row.in_doubt}
    assert {State.SUCCEEDED, State.FAILED, State.NEEDS_REVIEW} <= settled


@pytest.mark.parametrize("policy", BAD, ids=lambda policy: policy.name)
def test_bad_policy_is_found_bad(policy: Policy) -> None:
    """The model can see the mistake, and shows the shortest way to it."""
    found = search(policy)

    print(f"\n{policy.name}: {found.problem}, {len(found.worlds)} states")  # noqa: T201 - the figure
    for number, label in enumerate(found.path, 1):
        print(f"{number:3} {label}")  # noqa: T201 - the counter-example

    assert found.problem is not None
