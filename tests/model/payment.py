"""The words about one payment: a `pay` issues a credential, and a person may pay with it.

A second, smaller model beside `purchase`. What it asks: is an order called paid that is not, or
given up for good that is paid later? The platform's query knows the order and no credential, so a
payment that nobody has made yet looks like one that was never issued.

What is shipped and not modelled: the table of states (`next_state`), what a finding proves
(`decide`) and what a record without a reply means (`error_without_reply`). The model calls them.

Time goes in ticks of 150 s: a signed request is accepted for 2 of them, a credential for 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from attrs import evolve, frozen

from tests.support.records import make_record
from wxpay_async.engine.replay import error_without_reply
from wxpay_async.errors import AlreadyPaidError
from wxpay_async.policy.resolution import Finding, InDoubtCall, decide
from wxpay_async.policy.states import State, Transition, next_state

TICK = 150.0
EXPIRY = 2
LIFE = 8
OLDEST = 13
CALLS = 2
OPEN = frozenset({State.UNKNOWN, State.PENDING})


@frozen(kw_only=True)
class Policy:
    """What may be decided differently; the defaults are what ships."""

    name: str = "ours"
    issued_is_paid: bool = False
    unreadable_is_paid: bool = False
    unpaid_is_not_found: bool = False
    believes_any_callback: bool = False


OURS = Policy()
BAD = (
    evolve(OURS, name="what was issued is called paid", issued_is_paid=True),
    evolve(OURS, name="a reply that does not open is called paid", unreadable_is_paid=True),
    evolve(OURS, name="unpaid is taken for never issued", unpaid_is_not_found=True),
    evolve(OURS, name="anybody's callback says paid", believes_any_callback=True),
)


class World(NamedTuple):
    """Everything. Ages are in ticks; -1 stands for what is not there."""

    state: State = State.RESERVED
    calls: int = 0
    in_doubt: bool = False
    age: int = 0  # of the latest signed timestamp
    absent: int = -1
    reply: bool = False  # the store has one
    readable: bool = True
    under_way: int = -1  # the request that was delayed
    credential: int = -1
    handed_out: bool = False
    paid: bool = False
    told: frozenset[str] = frozenset()


Step = tuple[str, World]


def find_problem(world: World) -> str | None:
    """Return the invariant that the world breaks."""
    if "paid" in world.told and not world.paid:
        return "called paid, and not paid"
    if "never" in world.told and world.paid:
        return "given up for good, and paid"
    return None


def list_steps(world: World, policy: Policy) -> Iterator[Step]:
    """Yield everything that can happen next."""
    yield "tick", _tick(world)
    if world.state in {State.RESERVED, State.UNKNOWN} and world.calls < CALLS:
        yield from _call(world)
    if 0 <= world.under_way < EXPIRY:
        yield "what was delayed arrives", _issue(world)._replace(under_way=-1)
    if world.handed_out and world.credential < LIFE and not world.paid:
        yield "the person pays", world._replace(paid=True)
    if world.state in OPEN:
        yield from _learn(world, policy)
    if world.state is State.SUCCEEDED:
        yield "the key of the store is lost", world._replace(readable=False)
        yield "the same call again", _replay(world, policy)


def _tick(world: World) -> World:
    return world._replace(
        age=min(world.age + 1, OLDEST),
        absent=_older(world.absent, 1),
        under_way=_older(world.under_way, EXPIRY),
        credential=_older(world.credential, LIFE),
    )


def _older(age: int, oldest: int) -> int:
    return age if age < 0 else min(age + 1, oldest)


def _issue(world: World) -> World:
    """Let the platform issue the credential of the requestId, once."""
    return world if world.credential >= 0 else world._replace(credential=0)


def _call(world: World) -> Iterator[Step]:
    sending = next_state(world.state, Transition.CLAIM)
    claimed = world._replace(calls=world.calls + 1, age=0, absent=-1)
    doubtful = claimed._replace(state=next_state(sending, Transition.DOUBT), in_doubt=True)
    if world.credential < 0:
        answered = _issue(claimed)._replace(
            state=next_state(sending, Transition.SUCCESS), reply=True, handed_out=True
        )
        yield "call: answered", answered
        yield "call: answered, and not written down", _issue(doubtful)._replace(handed_out=True)
    yield "call: the answer is lost, or repeats the requestId", _issue(doubtful)
    yield "call: delayed", doubtful._replace(under_way=0)


def _learn(world: World, policy: Policy) -> Iterator[Step]:
    """Query the order, or hear of it by a callback."""
    unpaid = Finding.NOT_FOUND if policy.unpaid_is_not_found else Finding.UNPAID
    finding = Finding.EXECUTED if world.paid else unpaid
    yield f"query: {finding}", _settle(world, finding)
    if world.paid or policy.believes_any_callback:
        yield "callback: paid", _settle(world, Finding.EXECUTED)


def _settle(world: World, finding: Finding) -> World:
    absent_at = None if world.absent < 0 else -world.absent * TICK
    doubt = InDoubtCall(
        state=world.state, since=0.0, signed_at=-world.age * TICK, absent_at=absent_at
    )
    decision = decide(doubt, finding, 0.0)
    if decision.transition is None:
        return world._replace(absent=-1 if decision.absent_at is None else max(world.absent, 0))
    state = next_state(world.state, decision.transition)
    word = "paid" if state is State.SUCCEEDED else "never"
    return world._replace(state=state, absent=-1, told=world.told | {word})


def _replay(world: World, policy: Policy) -> World:
    if world.reply and world.readable:
        paid = policy.issued_is_paid
    else:
        status = 200 if world.reply and not policy.unreadable_is_paid else None
        record = make_record(state=world.state, status=status)
        paid = isinstance(error_without_reply(record), AlreadyPaidError)
    return world._replace(told=world.told | {"paid"}) if paid else world
