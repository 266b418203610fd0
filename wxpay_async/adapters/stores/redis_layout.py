"""Define how `RedisStore` lays its operations out in Redis, and its few Lua scripts.

`IdempotencyRecord` decides what becomes of an operation. A script writes the record if the stored
one has not changed meanwhile, and otherwise returns what it found. It has each key as a literal
`KEYS[n]`: the proxies of clouds refuse others.

An operation is a hash. Three sorted sets beside it say when each operation must be looked at:
at a lease's end, at a query's time, or since when it could be forgotten. A fourth one has what
waits for a person. All keys of an appKey carry it in braces, which keeps them on one node of a
cluster.

A finished operation also has a time to live, for a store that no process tends. An open one has
none.

What callbacks have told of an order is a hash with a version and a document. One read takes many of
them, so all are on one node of a cluster.

A separate key says which version of this layout a Redis holds. A later version than ours is not
touched.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from wxpay_async.adapters.redis_clients import Command, Script
from wxpay_async.adapters.stores.inbox import hash_key
from wxpay_async.adapters.stores.rows import find_tend_time, from_row, to_row
from wxpay_async.policy.record import OPEN, IdempotencyRecord
from wxpay_async.policy.states import REVIEW, State

VERSION: Final = 2
"""The layout's version. A release that changes the layout raises it."""

VERSION_KEY: Final = "wxpay:store:version"

# Many words as one text: the length of each, a colon, and itself. Forty short replies take redis-py
# longer than all else that a read does.
_PACK: Final = """
local function pack(words)
    for i = 1, #words do words[i] = #words[i] .. ':' .. words[i] end
    return table.concat(words)
end
"""

_READ: Final = f"{_PACK}return pack(redis.call('HGETALL', KEYS[1]))"
_LIST: Final = f"{_PACK}return pack(redis.call('ZRANGE', KEYS[1], 0, -1))"

# The compared values show that there was no other write since: `mark` is a text that each write
# makes up. Earlier releases wrote none, hence the other three. '*' stands for any value. If the new
# mark is there already, the answer to this very write got lost. A full Redis refuses a script whose
# first write needs memory: a new operation begins with such a one, a later write with a deletion.
# KEYS: the sets 1 leases, 2 checks, 3 old, 4 reviews; then 5 the operation.
# ARGV: 1 id; epoch, state, time of the last write and mark that must be there, empty if none; 6 the
# new mark, 7 set (0: none), 8 score, 9 time to live (0: for ever), then names and values of all
# fields.
_PUT: Final = f"""{_PACK}
local found = redis.call('HMGET', KEYS[5], 'epoch', 'state', 'updated_at', 'mark')
if found[4] == ARGV[6] then return 1 end
for i = 1, 4 do
    if ARGV[i + 1] ~= '*' and ARGV[i + 1] ~= (found[i] or '') then
        return pack(redis.call('HGETALL', KEYS[5]))
    end
end
if found[1] then redis.call('DEL', KEYS[5]) end
redis.call('HSET', KEYS[5], 'mark', ARGV[6], unpack(ARGV, 10))
if ARGV[9] ~= '0' then redis.call('PEXPIRE', KEYS[5], ARGV[9]) end
local set = ARGV[7]
if set == '1' then
    redis.call('ZADD', KEYS[1], ARGV[8], ARGV[1])
else
    redis.call('ZREM', KEYS[1], ARGV[1])
end
if set == '2' then
    redis.call('ZADD', KEYS[2], ARGV[8], ARGV[1])
else
    redis.call('ZREM', KEYS[2], ARGV[1])
end
if set == '3' then
    redis.call('ZADD', KEYS[3], ARGV[8], ARGV[1])
else
    redis.call('ZREM', KEYS[3], ARGV[1])
end
if set == '4' then
    redis.call('ZADD', KEYS[4], ARGV[8], ARGV[1])
else
    redis.call('ZREM', KEYS[4], ARGV[1])
end
return 1
"""

# What is in the set of old ones may be forgotten; what was taken up again is there no more, or
# later.
# KEYS: as above. ARGV: id, the oldest time to keep.
_FORGET: Final = """
local at = redis.call('ZSCORE', KEYS[3], ARGV[1])
if not at or tonumber(at) > tonumber(ARGV[2]) then return 0 end
redis.call('DEL', KEYS[5])
redis.call('ZREM', KEYS[3], ARGV[1])
return 1
"""

# A hash that is gone was ended by its time to live, or deleted by hand.
# KEYS: as above. ARGV: id.
_CLEAR: Final = """
if redis.call('EXISTS', KEYS[5]) == 1 then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
return 1
"""

# ARGV: the version that must be there (0: none), the document, milliseconds to keep it.
_SWAP: Final = """
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then return 0 end
redis.call('HINCRBY', KEYS[1], 'version', 1)
redis.call('HSET', KEYS[1], 'value', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""

# A script, since its key says which node of a cluster is asked.
_TIME: Final = "return redis.call('TIME')"

READ: Final = Script(_READ)
LIST: Final = Script(_LIST)
PUT: Final = Script(_PUT)
FORGET: Final = Script(_FORGET)
CLEAR: Final = Script(_CLEAR)
SWAP: Final = Script(_SWAP)
TIME: Final = Script(_TIME)
SCRIPTS: Final = (READ, LIST, PUT, FORGET, CLEAR, SWAP, TIME)


@frozen
class Stamp:
    """What a write compares with what is stored: as it was read, or what is known without that."""

    epoch: bytes | str = ""
    state: bytes | str = ""
    updated_at: bytes | str = ""
    mark: bytes | str = ""


ABSENT: Final = Stamp()
"""There is no operation of this key."""


def make_sending_stamp(epoch: int) -> Stamp:
    """Return the stamp of any record that is being sent under this epoch."""
    return Stamp(str(epoch), State.SENDING.value, "*", "*")


@frozen
class Stored:
    """A record as it was read, and its stamp."""

    record: IdempotencyRecord
    stamp: Stamp


def read_hash(packed: bytes) -> Stored | None:
    """Return what a script gives of a hash; None of one that is absent."""
    words = unpack_words(packed)
    if not words:
        return None
    row = dict(zip((name.decode() for name in words[::2]), words[1::2], strict=True))
    stamp = Stamp(row["epoch"], row["state"], row["updated_at"], row.get("mark", ""))
    return Stored(from_row(row), stamp)


def unpack_words(packed: bytes) -> list[bytes]:
    """Return the words of a text that a script made of them."""
    words: list[bytes] = []
    at = 0
    while at < len(packed):
        colon = packed.index(b":", at)
        at = colon + 1 + int(packed[at:colon])
        words.append(packed[colon + 1 : at])
    return words


def write_hash(record: IdempotencyRecord, stamp: Stamp, *, mark: str, retention: float) -> Command:
    """Return the command that writes the record if its key's stamp is still this one.

    Only an evictable record gets a time to live.
    """
    life = to_milliseconds(retention) if record.evictable() else 0
    expected = (stamp.epoch, stamp.state, stamp.updated_at, stamp.mark)
    place = choose_set(record)
    return PUT.call(
        make_keys(record.key),
        (record.request_id, *expected, mark, *place, life, *to_hash(record)),
    )


def make_keys(key: tuple[str, str]) -> list[str]:
    """Return the keys of the appKey's sets and of the operation."""
    app_key, request_id = key
    names = ("sending", "check", "old", "review", f"op:{request_id}")
    return [f"wxpay:store:{{{app_key}}}:{name}" for name in names]


def make_inbox_key(key: str) -> str:
    """Return a key of limited length; all are on one node of a cluster, for one read of many."""
    return f"wxpay:{{callbacks}}:{hash_key(key)}"


def to_milliseconds(seconds: float) -> int:
    """Return a time to live as Redis wants it."""
    return max(1, round(seconds * 1000))


def choose_set(record: IdempotencyRecord) -> tuple[int, str]:
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
    """Return the names and values of the record's hash; None is left out."""
    names_and_values: list[str | bytes] = []
    for name, value in to_row(record).items():
        if value is not None:
            names_and_values += name, _write_value(value)
    return names_and_values


def _write_value(value: str | bytes | float) -> str | bytes:
    if isinstance(value, str | bytes):
        return value
    return str(int(value)) if isinstance(value, bool) else repr(value)
