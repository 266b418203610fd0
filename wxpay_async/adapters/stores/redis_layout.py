"""How `RedisStore` lays its operations out in Redis, and the Lua script of each method.

An operation is a hash. Three sorted sets beside it say when a sweep must look at which operation:
at a lease's end, at a query's time, or since when it could be forgotten. All keys of an appKey
carry it in braces, which keeps them on one node of a cluster.

A finished operation has a time to live as well, for a store that nobody sweeps; an open one none.

A key of its own says which version of this layout a Redis holds; one that is later than ours is not
touched.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from wxpay_async.policy.record import OPEN, IdempotencyRecord
from wxpay_async.policy.states import FINAL, State
from wxpay_async.protocol.idempotency_key import Fingerprint

Argument = str | bytes | int

VERSION: Final = 1
"""Of the layout below. A release that changes it raises it."""

VERSION_KEY: Final = "wxpay:store:version"

# The sets, by their place in KEYS: 1 leases, 2 checks, 3 old; then 4 the operation.
_PLACE: Final = """
local function place(id, set, score)
    for i = 1, 3 do
        if i ~= set then redis.call('ZREM', KEYS[i], id) end
    end
    if set > 0 then redis.call('ZADD', KEYS[set], score, id) end
end
"""

# ARGV: id, set, score, time to live (0: for ever), then names and values of all fields.
_WRITE: Final = f"""{_PLACE}
local function write()
    redis.call('DEL', KEYS[4])
    redis.call('HSET', KEYS[4], unpack(ARGV, 5))
    place(ARGV[1], tonumber(ARGV[2]), ARGV[3])
    if ARGV[4] ~= '0' then redis.call('PEXPIRE', KEYS[4], ARGV[4]) end
end
"""

_RESERVE: Final = f"""{_WRITE}
if redis.call('EXISTS', KEYS[4]) == 0 then write() end
return redis.call('HGETALL', KEYS[4])
"""

# What `IdempotencyRecord.can_be_replaced_by` says. The epoch is the last field, the state's place is that of its name.
_RECORD: Final = f"""{_WRITE}
local found = redis.call('HMGET', KEYS[4], 'epoch', 'state')
if found[1] ~= ARGV[#ARGV] then return 0 end
local final = {{{", ".join(f"{state.value}=true" for state in sorted(FINAL))}}}
for i = 5, #ARGV, 2 do
    local later = ARGV[i] == 'state' and ARGV[i + 1]
    if later and final[found[2]] and later ~= found[2] then return 0 end
    if later == 'unknown' and found[2] == 'pending' then return 0 end
end
write()
return 1
"""

# What `IdempotencyRecord.claimable` and `IdempotencyRecord.claimed` say. ARGV: id, now, signed_at, lease_until.
_CLAIM: Final = f"""{_PLACE}
local op = KEYS[4]
local found = redis.call('HMGET', op, 'state', 'lease_until', 'signed_at')
local state, now = found[1], ARGV[2]
if not state then return {{}} end
local lapsed = state == 'sending' and tonumber(found[2]) <= tonumber(now)
if not (lapsed or state == 'reserved' or state == 'unknown') then return {{}} end
if lapsed or state == 'unknown' then
    redis.call('HSET', op, 'in_doubt', 1)
    redis.call('HSETNX', op, 'doubt_since', now)
end
redis.call('HINCRBY', op, 'epoch', 1)
redis.call('HINCRBY', op, 'attempts', 1)
redis.call('HDEL', op, 'absent_at')
if tonumber(ARGV[3]) > tonumber(found[3] or 0) then redis.call('HSET', op, 'signed_at', ARGV[3]) end
redis.call('HSET', op, 'state', 'sending', 'lease_until', ARGV[4], 'updated_at', now)
redis.call('PERSIST', op)
place(ARGV[1], 1, ARGV[4])
return redis.call('HGETALL', op)
"""

# KEYS: the three sets. ARGV: how the operations' keys begin, now, the oldest to keep, when to look
# again, how many, how many old ones. A hash that is gone has ended by its time to live.
_SWEEP: Final = f"""{_PLACE}
local now = ARGV[2]
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
    local op = ARGV[1] .. id
    if redis.call('EXISTS', op) == 1 then
        redis.call('HINCRBY', op, 'epoch', 1)
        redis.call('HSETNX', op, 'doubt_since', now)
        redis.call('HSET', op, 'state', 'unknown', 'in_doubt', 1, 'next_check_at', now,
            'lease_until', '0.0', 'updated_at', now)
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

_LOAD: Final = "return redis.call('HGETALL', KEYS[1])"

# ARGV: now, the end of the lease, milliseconds to keep it.
_RECEIVE: Final = """
local found = redis.call('HMGET', KEYS[1], 'receipt', 'until')
if found[2] and tonumber(found[2]) > tonumber(ARGV[1]) then return found[1] end
redis.call('HSET', KEYS[1], 'receipt', 'busy', 'until', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 'yours'
"""

# ARGV: until when it is remembered, the same in milliseconds from now.
_HANDLED: Final = """
redis.call('HSET', KEYS[1], 'receipt', 'handled', 'until', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""

_UNHANDLED: Final = """
if redis.call('HGET', KEYS[1], 'receipt') == 'busy' then redis.call('DEL', KEYS[1]) end
return 1
"""

SCRIPTS: Final[Mapping[str, str]] = {
    "reserve": _RESERVE,
    "claim": _CLAIM,
    "record": _RECORD,
    "load": _LOAD,
    "sweep": _SWEEP,
    "receive": _RECEIVE,
    "handled": _HANDLED,
    "unhandled": _UNHANDLED,
}


def keys_of(key: tuple[str, str]) -> list[str]:
    """Return the keys of the appKey's three sets and of the operation."""
    app_key, request_id = key
    names = ("sending", "check", "old", f"op:{request_id}")
    return [f"wxpay:store:{{{app_key}}}:{name}" for name in names]


def inbox_key(message: str) -> str:
    """Return a key of limited length."""
    digest = hashlib.sha256(message.encode("utf-8", "surrogatepass")).hexdigest()
    return f"wxpay:inbox:{digest}"


def written(entry: IdempotencyRecord, *, retention: float) -> list[Argument]:
    """Return the arguments of the scripts that write; only what is evictable dies by itself."""
    life = milliseconds(retention) if entry.evictable() else 0
    args: list[Argument] = [entry.request_id, *_place(entry), life]
    for name, value in _fields(entry).items():
        args += name, value
    return args


def milliseconds(seconds: float) -> int:
    """Return a time to live as Redis wants it."""
    return max(1, round(seconds * 1000))


def _place(entry: IdempotencyRecord) -> tuple[int, str]:
    if entry.state is State.SENDING:
        return 1, repr(entry.lease_until)
    if entry.state in OPEN and entry.next_check_at is not None:
        return 2, repr(entry.next_check_at)
    return (3, repr(entry.updated_at)) if entry.evictable() else (0, "0")


_TEXTS: Final = ("app_key", "request_id", "operation", "out_trade_no")
_INTEGERS: Final = ("attempts", "signed_at", "status", "checks", "epoch")
_FLOATS: Final = (
    "lease_until",
    "doubt_since",
    "next_check_at",
    "absent_at",
    "created_at",
    "updated_at",
)
_BLOBS: Final = ("content", "reply")


def _fields(entry: IdempotencyRecord) -> dict[str, str | bytes]:
    """Return the fields of the hash; one that is None is not in it, the epoch is the last."""
    given: dict[str, str | bytes] = {
        "digest": entry.fingerprint.digest,
        "fields": json.dumps(dict(entry.fingerprint.fields)),
        "state": entry.state.value,
        "in_doubt": str(int(entry.in_doubt)),
    }
    for name in (*_TEXTS, *_FLOATS, *_BLOBS, *_INTEGERS):
        value = getattr(entry, name)
        if value is not None:
            given[name] = value if isinstance(value, str | bytes) else repr(value)
    return given


def entry_of(flat: Sequence[bytes]) -> IdempotencyRecord:
    """Return the entry from names and values as `HGETALL` gives them."""
    found = {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
    readers: tuple[tuple[Sequence[str], Callable[[bytes], object]], ...] = (
        (_TEXTS, bytes.decode),
        (_INTEGERS, int),
        (_FLOATS, float),
        (_BLOBS, bytes),
    )
    values: dict[str, Any] = {
        name: read(found[name]) for names, read in readers for name in names if name in found
    }
    return IdempotencyRecord(
        fingerprint=Fingerprint(found["digest"].decode(), json.loads(found["fields"])),
        state=State(found["state"].decode()),
        in_doubt=found["in_doubt"] == b"1",
        **values,
    )
