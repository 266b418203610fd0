"""The model of one payment: what ships says nothing untrue, every bad policy does."""

from __future__ import annotations

import pytest

from tests.model.checker import Search, explore
from tests.model.payment import BAD, OURS, Policy, World, find_problem, list_steps
from wxpay_async.policy.states import State


def search(policy: Policy) -> Search[World]:
    """Visit every world that a policy can reach."""
    return explore(World(), lambda world: list_steps(world, policy), find_problem)


def test_issued_is_never_called_paid_nor_given_up() -> None:
    """Whatever gets lost, paid is said of what is paid, and never of what cannot be paid."""
    found = search(OURS)
    print(f"\npayment: {len(found.worlds)} states")  # noqa: T201 - the figure

    assert found.problem is None, "\n".join(found.path)
    ends = {(world.state, world.paid) for world in found.worlds}
    assert {
        (State.SUCCEEDED, True),
        (State.SUCCEEDED, False),
        (State.NOT_EXECUTED, False),
        (State.UNKNOWN, True),
    } <= ends


@pytest.mark.parametrize("policy", BAD, ids=lambda policy: policy.name)
def test_bad_policy_of_payments_is_found_bad(policy: Policy) -> None:
    """The model can see the mistake, and shows the shortest way to it."""
    found = search(policy)

    print(f"\n{policy.name}: {found.problem}, {len(found.worlds)} states")  # noqa: T201 - the figure
    for number, label in enumerate(found.path, 1):
        print(f"{number:3} {label}")  # noqa: T201 - the counter-example

    assert found.problem is not None
