"""Define how `RedisStore` lays its operations out in Redis, and the Lua script of each method.

An operation is a hash. Three sorted sets beside it say when a sweep must look at which operation:
at a lease's end, at a query's time, or since when it could be forgotten. A fourth one has what
waits for a person. All keys of an appKey carry it in braces, which keeps them on one node of a
cluster.

A finished operation also has a time to live, for a store that is never swept. An open one has none.

What callbacks have told of an order is a hash with a version and a document. One read takes many of
them, so all are on one node of a cluster.

A separate key says which version of this layout a Redis holds. A later version than ours is not
touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from wxpay_async.adapters.stores.inbox import hash_key
from wxpay_async.adapters.stores.rows import find_tend_time, from_row, to_row
from wxpay_async.policy.record import OPEN, IdempotencyRecord
from wxpay_async.policy.states import FINAL, FINAL_STEPS, REVIEW, State

Argument = str | bytes | int

VERSION: Final = 2
"""The layout's version. A release that changes the layout raises it."""

VERSION_KEY: Final = "wxpay:store:version"

# The sets, by their place in KEYS: 1 leases, 2 checks, 3 old, 4 reviews; then 5 the
# operation.
_PLACE: Final = """
local function place(id, set, score)
    for i = 1, 4 do
        if i ~= set then redis.call('ZREM', KEYS[i], id) end
    end
    if set > 0 then redis.call('ZADD', KEYS[set], score, id) end
end
"""

# ARGV: id, set, score, time to live (0: for ever), then names and values of all fields.
_WRITE: Final = f"""{_PLACE}
local function write()
    redis.call('DEL', KEYS[5])
    redis.call('HSET', KEYS[5], unpack(ARGV, 5))
    place(ARGV[1], tonumber(ARGV[2]), ARGV[3])
    if ARGV[4] ~= '0' then redis.call('PEXPIRE', KEYS[5], ARGV[4]) end
end
"""

_RESERVE: Final = f"""{_WRITE}
if redis.call('EXISTS', KEYS[5]) == 0 then write() end
return redis.call('HGETALL', KEYS[5])
"""

# The rule is `IdempotencyRecord.can_be_replaced_by`. The epoch is the last argument; the state is
# the one after its name.
_RECORD: Final = f"""{_WRITE}
local found = redis.call('HMGET', KEYS[5], 'epoch', 'state')
if found[1] ~= ARGV[#ARGV] then return 0 end
local final = {{{", ".join(f"{state.value}=true" for state in sorted(FINAL))}}}
local steps = {{{", ".join(f"['{a.value} {b.value}']=true" for a, b in sorted(FINAL_STEPS))}}}
for i = 5, #ARGV, 2 do
    local later = ARGV[i] == 'state' and ARGV[i + 1]
    local kept = later and final[found[2]] and later ~= found[2]
    if kept and not steps[found[2] .. ' ' .. later] then return 0 end
    if later == 'unknown' and found[2] == 'pending' then return 0 end
end
write()
return 1
"""

# The rules are `IdempotencyRecord.try_claim` and `IdempotencyRecord.with_claim`.
# ARGV: id, now, signed_at, lease_until, token (empty: none).
_CLAIM: Final = f"""{_PLACE}
local op = KEYS[5]
local found = redis.call('HMGET', op, 'state', 'lease_until', 'signed_at', 'claim_token')
local state, now, lease_until, token = found[1], ARGV[2], ARGV[4], ARGV[5]
if not state then return {{}} end
local held = state == 'sending' and tonumber(found[2]) > tonumber(now)
local mine = held and token ~= '' and found[4] == token
if mine then
    if tonumber(found[2]) > tonumber(lease_until) then lease_until = found[2] end
elseif held or not (state == 'sending' or state == 'reserved' or state == 'unknown') then
    return {{}}
else
    if state ~= 'reserved' then
        redis.call('HSET', op, 'in_doubt', 1)
        redis.call('HSETNX', op, 'doubt_since', now)
    end
    redis.call('HINCRBY', op, 'epoch', 1)
    redis.call('HINCRBY', op, 'attempts', 1)
    redis.call('HDEL', op, 'absent_at', 'claim_token')
    if token ~= '' then redis.call('HSET', op, 'claim_token', token) end
end
if tonumber(ARGV[3]) > tonumber(found[3] or 0) then redis.call('HSET', op, 'signed_at', ARGV[3]) end
redis.call('HSET', op, 'state', 'sending', 'lease_until', lease_until, 'updated_at', now)
redis.call('PERSIST', op)
place(ARGV[1], 1, lease_until)
return redis.call('HGETALL', op)
"""

# KEYS: the sets. ARGV: how the operations' keys begin, now, the oldest time to keep, when to
# look again, how many to return, how many old ones to drop. A hash that is gone was ended by its
# time to live.
_SWEEP: Final = f"""{_PLACE}
local now = ARGV[2]
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
    local op = ARGV[1] .. id
    if redis.call('EXISTS', op) == 1 then
        redis.call('HINCRBY', op, 'epoch', 1)
        redis.call('HSETNX', op, 'doubt_since', now)
        redis.call('HSET', op, 'state', 'unknown', 'in_doubt', 1, 'next_check_at', now,
            'lease_until', '0.0', 'updated_at', now)
        redis.call('HDEL', op, 'claim_token')
        place(id, 2, now)
    else
        place(id, 0)
    end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', ARGV[3], 'LIMIT', 0, ARGV[6])) do
    redis.call('DEL', ARGV[1] .. id)
    place(id, 0)
end
local due = {{}}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[5])) do
    local op = ARGV[1] .. id
    local fields = redis.call('HGETALL', op)
    if #fields > 0 then
        due[#due + 1] = fields
        redis.call('HSET', op, 'next_check_at', ARGV[4])
        place(id, 2, ARGV[4])
    else
        place(id, 0)
    end
end
return due
"""

# KEYS: the set of checks, which holds what is open. ARGV: how the operations' keys begin, the
# number.
_FIND_OPEN: Final = """
local found = {}
for _, set in ipairs(KEYS) do
    for _, id in ipairs(redis.call('ZRANGE', set, 0, -1)) do
        local op = ARGV[1] .. id
        if redis.call('HGET', op, 'out_trade_no') == ARGV[2] then
            found[#found + 1] = redis.call('HGETALL', op)
        end
    end
end
return found
"""

# KEYS: the sets. ARGV: how the operations' keys begin, after which requestId, how many to return.
_LIST_OPEN: Final = """
local ids = {}
for _, set in ipairs({KEYS[1], KEYS[2], KEYS[4]}) do
    for _, id in ipairs(redis.call('ZRANGE', set, 0, -1)) do
        if id > ARGV[2] then ids[#ids + 1] = id end
    end
end
table.sort(ids)
local found = {}
for _, id in ipairs(ids) do
    if #found == tonumber(ARGV[3]) then break end
    local fields = redis.call('HGETALL', ARGV[1] .. id)
    if #fields > 0 then found[#found + 1] = fields end
end
return found
"""

_LOAD: Final = "return redis.call('HGETALL', KEYS[1])"

_LOAD_ENTRIES: Final = """
local found = {}
for i, key in ipairs(KEYS) do found[i] = redis.call('HMGET', key, 'version', 'value') end
return found
"""

# ARGV: the version that must be there (0: none), the document, milliseconds to keep it.
_SWAP: Final = """
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then return 0 end
redis.call('HINCRBY', KEYS[1], 'version', 1)
redis.call('HSET', KEYS[1], 'value', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""

SCRIPTS: Final[Mapping[str, str]] = {
    "reserve": _RESERVE,
    "claim": _CLAIM,
    "record": _RECORD,
    "load": _LOAD,
    "find_open": _FIND_OPEN,
    "sweep": _SWEEP,
    "list_open": _LIST_OPEN,
    "load_entries": _LOAD_ENTRIES,
    "swap": _SWAP,
}


def make_keys(key: tuple[str, str]) -> list[str]:
    """Return the keys of the appKey's sets and of the operation."""
    app_key, request_id = key
    names = ("sending", "check", "old", "review", f"op:{request_id}")
    return [f"wxpay:store:{{{app_key}}}:{name}" for name in names]


def make_inbox_key(key: str) -> str:
    """Return a key of limited length; all are on one node of a cluster, for one read of many."""
    return f"wxpay:{{callbacks}}:{hash_key(key)}"


def make_write_arguments(record: IdempotencyRecord, *, retention: float) -> list[Argument]:
    """Return the arguments of the scripts that write.

    Only an evictable record gets a time to live.
    """
    life = to_milliseconds(retention) if record.evictable() else 0
    return [record.request_id, *_choose_set(record), life, *to_hash(record)]


def to_milliseconds(seconds: float) -> int:
    """Return a time to live as Redis wants it."""
    return max(1, round(seconds * 1000))


def _choose_set(record: IdempotencyRecord) -> tuple[int, str]:
    """Return the number of the set that the record belongs to, and its score there."""
    at = find_tend_time(record)
    if record.state in REVIEW:
        return 4, repr(record.updated_at)
    if record.state in OPEN:
        return 2, "+inf" if at is None else repr(at)
    if at is None:
        return 0, "0"
    return (1 if record.state is State.SENDING else 3), repr(at)


def to_hash(record: IdempotencyRecord) -> list[str | bytes]:
    """Return the names and values of the record's hash; None is left out, the epoch is last."""
    row = to_row(record)
    row["epoch"] = row.pop("epoch")
    names_and_values: list[str | bytes] = []
    for name, value in row.items():
        if value is not None:
            names_and_values += name, _write_value(value)
    return names_and_values


def _write_value(value: str | bytes | float) -> str | bytes:
    if isinstance(value, str | bytes):
        return value
    return str(int(value)) if isinstance(value, bool) else repr(value)


def from_hash(names_and_values: Sequence[bytes]) -> IdempotencyRecord:
    """Return the record from names and values as `HGETALL` gives them."""
    pairs = zip(names_and_values[::2], names_and_values[1::2], strict=True)
    return from_row({name.decode(): value for name, value in pairs})
