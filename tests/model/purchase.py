"""The life of one purchase, explored to the last interleaving (`money-safety.md` §1).

An explicit-state model in plain Python. Two workers share a row and send for one purchase over a
network that delays, loses and duplicates; any of them may stop at any step for any time, or crash.
Two resolvers query. The platform refuses what is expired, and what repeats a requestId. Every
reachable state is visited, breadth first, so a counter-example is a shortest one.

What is shipped and not modelled: the table of states (`next_state`) and what errors mean in it
(`transition_for`). The model calls them.

Time goes in ticks of 150 s. Attempt (15 s), lease (45 s) and the limit between claim and sending
(2 s) are all over with the next tick; a signed request is accepted until it is `EXPIRY` ticks old,
by a platform whose clock is up to `SKEW` ticks late; the quarantine lasts `QUARANTINE` ticks.

Assumed of the platform, and nothing else: one requestId is executed at most once; the door
(signature, address, age) judges all copies of one signed request alike; the query for an executed
order finds it.

The door is the configuration: a refusal of it passes, and the same requestId may go afterwards. The
caller hears a word after each attempt. "Not so far" must be true of the moment in which it is said,
and of every request that is still on its way; "no" and "ok" are for good.

A worker whose turn has come claims with the commit that reserves the row, and any other one with a
commit of its own. The answer to a claim may get lost: its worker claims once more, or gives the
claim back; one that reserved with it gives it back. "Another is sending" must not be said of one's
own claim. A callback tells how an operation ended; a genuine
one must leave nothing open, and anybody can write another one.

A message that is lost is one that is never delivered, and a paused worker is one that does not
step while the clock does, so neither needs an action of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from attrs import evolve, frozen

from wxpay_async.errors import (
    ClockSkewError,
    ConfigurationRefusedError,
    DuplicateRequestError,
    FailedError,
    InDoubtError,
    NotSentError,
    RefusedError,
)
from wxpay_async.policy.states import (
    CLAIMABLE,
    FINAL,
    State,
    Transition,
    next_state,
    transition_for,
)

EXPIRY = 2
SKEW = 1
QUARANTINE = 4
CLAIMS = 2
SEEN_BEFORE = 2

UNSENT = transition_for(NotSentError("connection refused"))
TIMED_OUT = transition_for(InDoubtError("read timeout"))
EXPIRED = transition_for(ClockSkewError("expired"))
REFUSED = transition_for(RefusedError("no"))
BARRED = transition_for(ConfigurationRefusedError("no such appKey"))
DUPLICATE = transition_for(DuplicateRequestError("repeated"))
FAILURE = transition_for(FailedError("status F"))

OPEN = frozenset({State.UNKNOWN, State.PENDING})
TIMELESS = FINAL | {State.RESERVED}
NO = frozenset({State.REJECTED, State.FAILED, State.NOT_EXECUTED})
"""Where the caller hears that no money moved, and may start a new generation."""


@frozen(kw_only=True)
class Policy:
    """What may be decided differently; the defaults are what ships."""

    name: str = "ours"
    resolvers: int = 2
    absent_is_final: bool = False
    new_id_after_doubt: bool = False
    duplicate: Transition = DUPLICATE
    barred: Transition = BARRED
    sends_after_a_pause: bool = False
    forgets_doubt: bool = False
    fenced_speak: bool = False
    overwrites_what_is_settled: bool = False
    absent_by_any_refusal: bool = False
    spoilt_answers: bool = False
    one_deviation_is_final: bool = False
    verdict_while_open: bool = False
    loses_answers_to_claims: bool = False
    knows_its_own_claim: bool = True
    takes_any_claim_for_its_own: bool = False
    gives_any_claim_back: bool = False
    leaves_a_lost_reservation: bool = False
    reserves_over_what_is_known: bool = False
    sends_what_it_finds_settled: bool = False
    query_finds_nothing: bool = False
    absence_proves_all_the_same: bool = False
    callback_settles: bool = True
    believes_any_callback: bool = False


OURS = Policy()
ALONE = evolve(OURS, resolvers=1)
SPOILT = evolve(ALONE, name="ours, and one answer of a query is spoilt", spoilt_answers=True)
LOSSY = evolve(ALONE, name="ours, and answers to claims get lost", loses_answers_to_claims=True)
BLIND = evolve(ALONE, name="ours, of what no query finds", query_finds_nothing=True)
BAD = (
    evolve(ALONE, name="not found is final at once", absent_is_final=True),
    evolve(ALONE, name="a new requestId after a timeout", new_id_after_doubt=True),
    evolve(ALONE, name="a duplicate is taken for a success", duplicate=Transition.SUCCESS),
    evolve(ALONE, name="a refusal of the configuration sticks", barred=REFUSED),
    evolve(ALONE, name="a paused worker sends without a look", sends_after_a_pause=True),
    evolve(ALONE, name="a refusal settles what is in doubt", forgets_doubt=True),
    evolve(ALONE, name="a fenced worker speaks for the purchase", fenced_speak=True),
    evolve(OURS, name="a late finding undoes a settled row", overwrites_what_is_settled=True),
    evolve(ALONE, name="any refusal of a query counts as absent", absent_by_any_refusal=True),
    evolve(SPOILT, name="one deviating answer is a conflict", one_deviation_is_final=True),
    evolve(ALONE, name="a person settles what is still open", verdict_while_open=True),
    evolve(LOSSY, name="a claim does not know its own again", knows_its_own_claim=False),
    evolve(LOSSY, name="any claim is taken for one's own", takes_any_claim_for_its_own=True),
    evolve(LOSSY, name="any claim is given back", gives_any_claim_back=True),
    evolve(LOSSY, name="a lost reservation stays claimed", leaves_a_lost_reservation=True),
    evolve(ALONE, name="a reservation overwrites a row", reserves_over_what_is_known=True),
    evolve(ALONE, name="what is found settled is sent", sends_what_it_finds_settled=True),
    evolve(BLIND, name="what no query finds counts as absent", absence_proves_all_the_same=True),
    evolve(BLIND, name="a callback leaves open what it tells of", callback_settles=False),
    evolve(ALONE, name="anybody's callback settles", believes_any_callback=True),
)


class At:
    """Where a worker stands. A plain number: Python hashes an enum's member ten times slower."""

    IDLE = 0
    CLAIMED = 1
    READY = 2
    WAITING = 3
    HEARD = 4
    LOST = 5  # it has asked for a claim, and does not know whether it has one
    UNSURE = 6  # the same, of a claim that was a reservation: its call ends


class Fact:
    """What the platform did with a requestId."""

    NOTHING = 0
    PROCESSING = 1
    EXECUTED = 2
    DECLINED = 3
    FAILED = 4


NOT_PAID = frozenset({Fact.NOTHING, Fact.DECLINED, Fact.FAILED})
_ENDS = {Fact.EXECUTED: Transition.SUCCESS, Fact.FAILED: FAILURE}
_FOUND = _ENDS | {Fact.PROCESSING: Transition.ACCEPTED}


class Worker(NamedTuple):
    """One process in the middle of an attempt."""

    at: int = At.IDLE
    generation: int = 0
    epoch: int = 0
    age: int = 0  # ticks since the claim, which are the ticks since the signed timestamp
    heard: Transition | None = None


_IDLE = Worker()


class Row(NamedTuple):
    """What the store holds."""

    state: State = State.RESERVED
    generation: int = 0
    epoch: int = 0
    claims: int = 0
    known: bool = False  # it was reserved
    in_doubt: bool = False
    age: int = 0  # ticks since the last signed timestamp
    absent: int = 0  # 1: found nothing in this tick, 2: in an earlier one
    deviates: int = 0  # the same for other content


class Request(NamedTuple):
    """A signed request on its way."""

    generation: int
    epoch: int
    age: int
    barred: bool  # the door refuses it
    passed: bool = False  # the door let a copy of it pass


class Finding(NamedTuple):
    """What a query returned to the resolver, which has not recorded it yet."""

    epoch: int
    state: State  # of the row, when it was read
    event: Transition
    counts: bool


class World(NamedTuple):
    """Everything."""

    row: Row = Row()
    workers: tuple[Worker, ...] = (Worker(), Worker())
    findings: frozenset[Finding] = frozenset()
    requests: frozenset[Request] = frozenset()
    replies: frozenset[tuple[int, Transition]] = frozenset()
    facts: tuple[int, int] = (Fact.NOTHING, Fact.NOTHING)
    # generation, and "ok", "no" or one of `WRONG`
    spoilt: bool = False  # the one answer that is
    told: frozenset[tuple[int, str]] = frozenset()


Step = tuple[str, World]


WRONG = {
    "not so far": "reported as not executed so far, and it was or is under way",
    "another": "reported as sent by another, and it is one's own claim",
    "open": "told by a callback how it ended, and left open",
}
"""Words that are noted only where they are wrong when they are said."""


def find_problem(world: World) -> str | None:
    """Return the invariant that the world breaks."""
    executed = [fact == Fact.EXECUTED for fact in world.facts]
    if sum(executed) > 1:
        return "executed twice"
    for generation, word in sorted(world.told):
        if word == "no" and executed[generation]:
            return "executed, and reported as not executed"
        if word == "ok" and world.facts[generation] in NOT_PAID:
            return "reported as ok, and not executed"
        if word in WRONG:
            return WRONG[word]
    return _find_problem_of_row(world.row, world.facts[world.row.generation])


def _find_problem_of_row(row: Row, fact: int) -> str | None:
    if row.state is State.CONFLICT and fact == Fact.EXECUTED:
        return "executed as it was asked for, and called a conflict"
    if row.state is State.REJECTED and fact == Fact.NOTHING:
        return "refused for good, and the platform never looked at it"
    return None


def list_steps(world: World, policy: Policy) -> Iterator[Step]:
    """Yield everything that can happen next."""
    yield "tick", _tick(world)
    for index, worker in enumerate(world.workers):
        others = world.workers[:index] + world.workers[index + 1 :]
        for label, after, moved in _worker_steps(world, worker, policy):
            yield label, after._replace(workers=(*others, moved))
    yield from _platform_steps(world, policy)
    yield from _resolver_steps(world, policy)
    refused_so_far = world.row.state is State.RESERVED and world.row.claims
    if (world.row.state in NO or refused_so_far) and world.row.generation == 0:
        yield "the caller starts a new generation", _next_generation(world)


def _tick(world: World) -> World:
    oldest = EXPIRY + SKEW
    row = world.row
    return world._replace(
        row=row._replace(
            age=min(row.age + 1, QUARANTINE),
            absent=2 if row.absent else 0,
            deviates=2 if row.deviates else 0,
        ),
        workers=tuple(
            w._replace(age=min(w.age + 1, oldest)) if At.CLAIMED <= w.at <= At.READY else w
            for w in world.workers
        ),
        requests=frozenset(
            r if r.passed else r._replace(age=min(r.age + 1, oldest)) for r in world.requests
        ),
    )


def _next_generation(world: World) -> World:
    row = world.row
    return world._replace(row=Row(generation=1, epoch=row.epoch + 1, claims=row.claims))


# The workers

Moved = tuple[str, World, Worker]


def _worker_steps(world: World, worker: Worker, policy: Policy) -> Iterator[Moved]:
    if worker.at == At.IDLE:
        yield from _claim(world, policy) if world.row.known else _reserve(world, policy)
        return
    yield "crash", world, Worker()
    if worker.at == At.UNSURE:
        yield _end_unsure(world, worker, policy)
    elif worker.at == At.LOST:
        yield _claim_again(world, worker, policy)
        yield _give_back(world, worker, policy)
    elif worker.at == At.CLAIMED:
        yield _wake(world, worker, policy)
    elif worker.at == At.READY:
        yield "cannot connect", world, worker._replace(at=At.HEARD, heard=UNSENT, age=0)
        yield from _send(world, worker)
    elif worker.at == At.WAITING:
        yield "time-out", world, worker._replace(at=At.HEARD, heard=TIMED_OUT)
        for epoch, event in world.replies:
            if epoch == worker.epoch:
                yield f"hear {event}", world, worker._replace(at=At.HEARD, heard=event)
    else:
        yield f"record {worker.heard}", _record_end(world, worker, policy), Worker()


def _reserve(world: World, policy: Policy) -> Iterator[Moved]:
    """Reserve, and claim with the same commit if a slot and a connection are free."""
    world = world._replace(row=world.row._replace(known=True))
    yield "reserve", world, Worker()
    for label, after, worker in _claim(world, policy):
        moved = worker._replace(at=At.UNSURE) if worker.at == At.LOST else worker
        yield f"reserve and {label}", after, moved


def _end_unsure(world: World, worker: Worker, policy: Policy) -> Moved:
    if not policy.leaves_a_lost_reservation:
        return _give_back(world, worker, policy)
    row = world.row
    if row.state is State.SENDING and row.epoch == worker.epoch and not row.age:
        world = world._replace(told=world.told | {(row.generation, "another")})
    return "call again, and hear that another is sending", world, Worker()


def _find_known(world: World, policy: Policy) -> Iterator[Moved]:
    """What goes wrong where a reservation finds a row."""
    row = world.row
    if policy.sends_what_it_finds_settled and row.state in FINAL:
        yield "take what is settled", world, Worker(At.CLAIMED, row.generation, row.epoch)
    if policy.reserves_over_what_is_known and 0 < row.claims < CLAIMS:
        over = Row(State.SENDING, row.generation, row.epoch + 1, row.claims + 1, known=True)
        yield (
            "reserve over it",
            world._replace(row=over),
            Worker(At.CLAIMED, over.generation, over.epoch),
        )


def _claim(world: World, policy: Policy) -> Iterator[Moved]:
    row = world.row
    yield from _find_known(world, policy)
    if policy.takes_any_claim_for_its_own and row.state is State.SENDING and not row.age:
        yield "claim what is claimed", world, Worker(At.CLAIMED, row.generation, row.epoch)
    lapsed = row.state is State.SENDING and row.age > 0
    if row.claims == CLAIMS or not (lapsed or row.state in CLAIMABLE):
        return
    doubtful = lapsed or row.state is State.UNKNOWN
    row = row._replace(
        state=next_state(State.UNKNOWN if lapsed else row.state, Transition.CLAIM),
        epoch=row.epoch + 1,
        claims=row.claims + 1,
        in_doubt=row.in_doubt or doubtful,
        age=0,
        absent=0,
    )
    world = world._replace(row=row)
    yield "claim", world, Worker(At.CLAIMED, row.generation, row.epoch)
    if policy.loses_answers_to_claims:
        # The epoch of the claim stands for its token: both belong to this claim alone.
        yield "claim, without an answer", world, Worker(At.LOST, row.generation, row.epoch)


def _claim_again(world: World, worker: Worker, policy: Policy) -> Moved:
    """Repeat a claim. One that finds none of its own is like a first one, and is left out here."""
    row = world.row
    own = row.state is State.SENDING and row.epoch == worker.epoch and not row.age
    if own and policy.knows_its_own_claim:
        return "find the own claim", world, worker._replace(at=At.CLAIMED)
    if own:
        world = world._replace(told=world.told | {(row.generation, "another")})
    return "hear that another is sending", world, Worker()


def _give_back(world: World, worker: Worker, policy: Policy) -> Moved:
    """Release a claim under which nothing was sent."""
    found = worker.epoch
    if policy.gives_any_claim_back and world.row.state is State.SENDING:
        found = world.row.epoch
    released = worker._replace(heard=UNSENT, epoch=found)
    return "give the claim back", _record_end(world, released, policy), Worker()


def _wake(world: World, worker: Worker, policy: Policy) -> Moved:
    if policy.sends_after_a_pause:
        return "sign with a new timestamp", world, worker._replace(at=At.READY, age=0)
    if worker.age:
        return "abandon", world, worker._replace(at=At.HEARD, heard=UNSENT, age=0)
    return "sign with the claim's timestamp", world, worker._replace(at=At.READY)


def _send(world: World, worker: Worker) -> Iterator[Moved]:
    for barred in (False, True):
        request = Request(worker.generation, worker.epoch, worker.age, barred)
        yield (
            f"send {request}",
            world._replace(requests=world.requests | {request}),
            worker._replace(at=At.WAITING, age=0),
        )


def _record_end(world: World, worker: Worker, policy: Policy) -> World:
    row, event = world.row, worker.heard
    assert event is not None
    # Fenced: another claim came since, or the lease was swept. That it is settled under its own
    # epoch happens only where two workers share a claim.
    if row.epoch != worker.epoch or row.state in FINAL:
        settled = next_state(State.SENDING, event)
        speaks = policy.fenced_speak or settled is State.SUCCEEDED
        return _tell(world, worker.generation, settled) if speaks else world
    in_doubt = row.in_doubt and not policy.forgets_doubt
    state = next_state(State.SENDING, event, in_doubt=in_doubt)
    row = row._replace(state=state, in_doubt=row.in_doubt or event is Transition.DOUBT)
    world = _tell(world._replace(row=row), row.generation, state)
    if policy.new_id_after_doubt and event is Transition.DOUBT and row.generation == 0:
        return _next_generation(world)
    return world


def _tell(world: World, generation: int, state: State) -> World:
    if state is State.SUCCEEDED:
        return world._replace(told=world.told | {(generation, "ok")})
    if state in NO:
        return world._replace(told=world.told | {(generation, "no")})
    if state is State.RESERVED and _may_move_money(world, generation):
        return world._replace(told=world.told | {(generation, "not so far")})
    return world


def _may_move_money(world: World, generation: int) -> bool:
    """Tell whether the platform executed something, or can still get it to execute."""
    under_way = (r for r in world.requests if r.generation == generation)
    return world.facts[generation] not in NOT_PAID or any(map(_may_be_executed, under_way))


# The platform


def _platform_steps(world: World, policy: Policy) -> Iterator[Step]:
    for request in world.requests:
        for fact, event in _list_answers(world.facts[request.generation], request, policy):
            after = world._replace(facts=_set_fact(world, request.generation, fact))
            if event is not Transition.DOUBT:  # which says no more than the time-out does
                after = after._replace(replies=world.replies | {(request.epoch, event)})
            label = f"deliver {request}: {event}"
            yield label, after._replace(requests=world.requests - {request})
            copies = world.requests - {request} | {request._replace(age=0, passed=True)}
            if policy.duplicate is not Transition.DOUBT and not (
                request.barred or event is EXPIRED
            ):
                yield f"{label}, a copy stays under way", after._replace(requests=copies)
    for generation, fact in enumerate(world.facts):
        if fact == Fact.PROCESSING:
            for end in (Fact.EXECUTED, Fact.FAILED):
                yield (
                    f"the platform ends: {end}",
                    world._replace(facts=_set_fact(world, generation, end)),
                )


def _list_answers(fact: int, request: Request, policy: Policy) -> Iterator[tuple[int, Transition]]:
    if request.barred:
        yield fact, policy.barred
        return
    # The platform's clock is not known: at the border both may happen.
    if request.age >= EXPIRY and not request.passed:
        yield fact, EXPIRED
    if request.age < EXPIRY + SKEW or request.passed:
        if fact != Fact.NOTHING:
            yield fact, policy.duplicate
            return
        yield Fact.EXECUTED, Transition.SUCCESS
        yield Fact.PROCESSING, Transition.ACCEPTED
        yield Fact.DECLINED, REFUSED


def _set_fact(world: World, generation: int, fact: int) -> tuple[int, int]:
    first, second = world.facts
    return (fact, second) if generation == 0 else (first, fact)


# The resolver


def _resolver_steps(world: World, policy: Policy) -> Iterator[Step]:
    row = world.row
    if row.state is State.SENDING and row.age > 0:
        swept = row._replace(
            state=next_state(row.state, Transition.DOUBT), in_doubt=True, epoch=row.epoch + 1
        )
        yield "sweep", world._replace(row=swept)
    for finding in world.findings:
        yield f"settle {finding.event}", _settle(world, finding, policy)
    if row.state in OPEN and len(world.findings) < policy.resolvers:
        finding = _query(world, policy)
        yield f"query: {finding.event}", world._replace(findings=world.findings | {finding})
        yield from _odd_queries(world, finding, policy)
        yield from _callbacks(world, policy)
    if row.state in OPEN and row.age == QUARANTINE:
        tired = row._replace(state=next_state(row.state, Transition.TOO_OLD), epoch=row.epoch + 1)
        yield "24 h are over", world._replace(row=tired)
    if row.state is State.NEEDS_REVIEW or (policy.verdict_while_open and row.state in OPEN):
        yield from _verdict(world)


def _odd_queries(world: World, finding: Finding, policy: Policy) -> Iterator[Step]:
    """A query that is refused because the platform is busy, and one whose answer is spoilt."""
    if policy.absent_by_any_refusal:
        busy = finding._replace(event=Transition.ABSENT)
        yield "query: busy", world._replace(findings=world.findings | {busy})
    there = finding.event is Transition.SUCCESS and finding.state is State.UNKNOWN
    if policy.spoilt_answers and there and not world.spoilt:
        odd = finding._replace(event=Transition.MISMATCH)
        yield "query: spoilt", world._replace(findings=world.findings | {odd}, spoilt=True)


def _callbacks(world: World, policy: Policy) -> Iterator[Step]:
    """A callback is acted on like a finding. One without a signature leads to a query."""
    row = world.row
    told = _ENDS.get(world.facts[row.generation])
    if told is not None and not policy.callback_settles:
        yield f"callback: {told}", world._replace(told=world.told | {(row.generation, "open")})
    elif told is not None:
        yield f"callback: {told}", _find(world, told)
    if policy.believes_any_callback:
        for event in _ENDS.values():
            yield f"forged callback: {event}", _find(world, event)


def _find(world: World, event: Transition) -> World:
    row = world.row
    finding = Finding(row.epoch, row.state, event, row.age >= QUARANTINE)
    return world._replace(findings=world.findings | {finding})


def _verdict(world: World) -> Iterator[Step]:
    """A person asks the platform's support, and says what is so at that moment."""
    fact = world.facts[world.row.generation]
    if fact == Fact.PROCESSING:
        return
    event = Transition.CONFIRMED if fact == Fact.EXECUTED else Transition.DENIED
    yield f"verdict: {event}", _move(world, next_state(State.NEEDS_REVIEW, event))


def _query(world: World, policy: Policy) -> Finding:
    row = world.row
    quarantined = row.age >= QUARANTINE
    if policy.query_finds_nothing:
        counts = quarantined and policy.absence_proves_all_the_same
        return Finding(row.epoch, row.state, Transition.ABSENT, counts)
    event = _FOUND.get(world.facts[row.generation], Transition.ABSENT)
    return Finding(row.epoch, row.state, event, policy.absent_is_final or quarantined)


def _settle(world: World, finding: Finding, policy: Policy) -> World:
    row = world.row
    world = world._replace(findings=world.findings - {finding})
    yields = row.state not in FINAL or policy.overwrites_what_is_settled
    if finding.epoch != row.epoch or not yields:
        return world
    if finding.event is Transition.ABSENT:
        return _note_absence(world, finding)
    once = finding.event is Transition.MISMATCH and row.deviates < SEEN_BEFORE
    if once and not policy.one_deviation_is_final:
        return world._replace(row=row._replace(state=finding.state, deviates=row.deviates or 1))
    if (finding.state, finding.event) == (State.PENDING, Transition.ACCEPTED):
        return world._replace(row=row._replace(state=State.PENDING))
    return _move(world, next_state(finding.state, finding.event))


def _note_absence(world: World, finding: Finding) -> World:
    row = world.row
    if finding.state is State.PENDING or not finding.counts:
        return world._replace(row=row._replace(state=finding.state))
    if row.absent < 2 and row.age >= QUARANTINE:
        return world._replace(row=row._replace(state=finding.state, absent=row.absent or 1))
    return _move(world, next_state(finding.state, Transition.ABSENT))


def _move(world: World, state: State) -> World:
    row = world.row._replace(state=state)
    return _tell(world._replace(row=row), row.generation, state)


# The search


def normalize(world: World, policy: Policy) -> World:
    """Fold worlds of the same effect: the order of workers, messages that no worker waits for."""
    row = world.row
    if row.state in TIMELESS:
        row = row._replace(age=0, absent=0, deviates=0)
    workers = [_IDLE if _is_without_effect(w, row, policy) else w for w in world.workers]
    waiting = {w.epoch for w in workers if w.at == At.WAITING}
    requests = frozenset(r for r in world.requests if r.epoch in waiting or _may_be_executed(r))
    return world._replace(
        row=row,
        workers=tuple(sorted(workers, key=_sort_key)),
        findings=frozenset(f for f in world.findings if f.epoch == row.epoch),
        requests=requests,
        replies=frozenset(reply for reply in world.replies if reply[0] in waiting),
    )


def _is_without_effect(worker: Worker, row: Row, policy: Policy) -> bool:
    silent = {TIMED_OUT} if policy.fenced_speak else {UNSENT, TIMED_OUT}
    return worker.heard in silent and worker.epoch != row.epoch


def _may_be_executed(request: Request) -> bool:
    return not (request.barred or request.passed or request.age == EXPIRY + SKEW)


def _sort_key(worker: Worker) -> tuple[int, int, int, str]:
    return worker.at, worker.epoch, worker.age, worker.heard or ""
