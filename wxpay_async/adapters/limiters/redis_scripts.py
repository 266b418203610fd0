"""The rules of `policy/quota.py` as Lua: only a script is atomic.

Every key stands in the scripts as a literal `KEYS[n]`, for the proxies of clouds refuse a script
that computes one. So what is done to one lane of several is written out for each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from wxpay_async.policy.lanes import Lane

PLACES: Final = {lane: place for place, lane in enumerate(Lane, start=1)}
"""The number of each lane among the keys of the scripts."""

CLOCK: Final = "redis.call('TIME')"

_SETS: Final = range(1, 7)
_LANES: Final = range(1, 6)


def _for_each(places: Iterable[int], lines: str) -> str:
    """Write lines out for each place, which stands in them as `@`."""
    return "".join(lines.replace("@", str(place)) for place in places)


# KEYS: the slots of each lane, in the order of the lanes; those of an earlier process; the state;
# the waiting callers. ARGV: the limit, by how much the pace recovers in a minute, and more.
_START: Final = f"""
local clock = {CLOCK}
local now = clock[1] * 1000000 + clock[2]
local limit, recovery = tonumber(ARGV[1]), tonumber(ARGV[2])
"""

_COUNT: Final = (
    "local held, taken = {}, 0\n"
    + _for_each(
        _SETS,
        """
redis.call('ZREMRANGEBYSCORE', KEYS[@], '-inf', now)
held[@] = redis.call('ZCARD', KEYS[@])
taken = taken + held[@]
""",
    )
    + """
local capacity, step_at = limit, math.huge
local pace = redis.call('HMGET', KEYS[7], 'pace', 'slowed')
if pace[1] then
    local minutes = math.floor((now - pace[2]) / 60000000)
    local recovered = pace[1] + minutes * recovery
    if recovered < limit then
        capacity, step_at = recovered, pace[2] + (minutes + 1) * 60000000
    end
end
"""
)

# A report is a lane, a member and the time for which its slot is taken from now on, even if the
# lease is over; a negative time releases it. All may come twice.
_REPORTS: Final = (
    "local put, drop, find, live = {}, {}, {}, {}\n"
    + _for_each(
        _LANES,
        """
put[@] = function(member, free) redis.call('ZADD', KEYS[@], free, member) end
drop[@] = function(member) redis.call('ZREM', KEYS[@], member) end
find[@] = function(member) return redis.call('ZSCORE', KEYS[@], member) end
live[@] = function(span)
    local milliseconds = math.ceil(span / 1000)
    if redis.call('PTTL', KEYS[@]) < milliseconds then
        redis.call('PEXPIRE', KEYS[@], milliseconds)
    end
end
""",
    )
    + """
local at, spans = 16, {}
for _ = 1, tonumber(ARGV[15]) do
    local lane, member, span = tonumber(ARGV[at]), ARGV[at + 1], tonumber(ARGV[at + 2])
    at = at + 3
    if span < 0 then
        drop[lane](member)
    else
        put[lane](member, now + span)
        spans[lane] = math.max(spans[lane] or 0, span)
    end
end
for lane = 1, 5 do if spans[lane] then live[lane](spans[lane]) end end
if at > #ARGV then return {} end
"""
)

_RESTART: Final = """
if redis.call('HSETNX', KEYS[7], 'lanes', 1) == 1 and ARGV[5] == '0' then
    local free = now + ARGV[4]
    for i = 1, math.floor(limit / 2) do redis.call('ZADD', KEYS[6], free, 'before:' .. i) end
    redis.call('PEXPIRE', KEYS[6], math.ceil(ARGV[4] / 1000))
end
"""

_RULES: Final = """
local lease, keep, period = tonumber(ARGV[3]), tonumber(ARGV[6]), tonumber(ARGV[7])
local process, poll = ARGV[8], tonumber(ARGV[9])
local function share(i) return math.max(1, math.floor(capacity * ARGV[9 + i] / limit)) end
local function whole(number) return string.format('%.0f', number) end

local starts = redis.call('HMGET', KEYS[7], 'next:1', 'next:2', 'next:3', 'next:4', 'next:5')
for i = 1, 5 do starts[i] = tonumber(starts[i] or 0) end
-- Whether the pace and the share of a lane let it go, apart from those of all machines together.
local function ready(i) return i == 1 or (now >= starts[i] and held[i] < share(i)) end

local line, waiting = {}, redis.call('HGETALL', KEYS[8])
for i = 1, #waiting, 2 do
    local lane, owner = waiting[i]:match('^(%d):(.*)$')
    local asks_by, size = waiting[i + 1]:match('^(%d+):(%d+)$')
    if tonumber(asks_by) <= now then
        redis.call('HDEL', KEYS[8], waiting[i])
    else
        line[waiting[i]] = {tonumber(lane), tonumber(asks_by), tonumber(size), owner}
    end
end

-- As `policy.lanes.next_due`.
local function next_due(due, interval)
    return (now - due < interval and due or now) + math.ceil(interval)
end

-- Returns nil if a call may go, else until when it may not, slots that come free left aside.
local function blocked_until(lane)
    local yields, free = false, step_at
    for _, group in pairs(line) do
        if group[1] < lane and ready(group[1]) then
            yields, free = true, math.min(free, group[2])
        end
    end
    local machines = held[2] + held[3] + held[4] + held[5]
    local room, starts_at = capacity, 0
    if lane == 1 then
        room = math.max(capacity, math.min(limit, taken - held[1] + keep))
    else
        starts_at = math.max(starts[lane], starts[4]) -- batches have the pace of all machines
    end
    local may = lane == 1 or (now >= starts_at and machines < share(4))
    if taken < room and ready(lane) and may and not yields then return nil end
    if now < starts_at then free = math.min(free, starts_at) end
    return free
end

local function take(lane, member)
    put[lane](member, now + lease)
    held[lane], taken = held[lane] + 1, taken + 1
    if lane > 1 then
        local left = capacity - held[1] + math.floor(limit / 20)
        local together = math.min(share(4), math.max(1, left, math.floor(capacity / 2)))
        if lane ~= 4 then starts[lane] = next_due(starts[lane], period / share(lane)) end
        starts[4] = next_due(starts[4], period / together) -- the pace of all machines
        redis.call(
            'HSET', KEYS[7], 'next:' .. lane, whole(starts[lane]), 'next:4', whole(starts[4])
        )
    end
end
"""

_SOONEST: Final = (
    """
local soonest = nil
local function first_free()
    if soonest then return soonest end
    local slot
    soonest = math.huge
"""
    + _for_each(
        _SETS,
        """
    slot = redis.call('ZRANGE', KEYS[@], 0, 0, 'WITHSCORES')
    if slot[2] then soonest = math.min(soonest, tonumber(slot[2])) end
""",
    )
    + """
    return soonest
end
"""
)

# The callers of a lane ask together: the lane, how many of its process wait for longer than this
# round, how many ask, and their members, the earliest first. They go in this order until one may
# not. A member that has its slot asks again if the answer was lost.
_ASKS: Final = """
local answers, blocked = {}, false
while at <= #ARGV do
    local lane, staying = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
    local last, wait, granted = at + 2 + tonumber(ARGV[at + 2]), 0, 0
    for i = at + 3, last do
        if find[lane](ARGV[i]) then
            put[lane](ARGV[i], now + lease)
        else
            local free = blocked_until(lane)
            if free then
                wait = math.max(1, math.min(free, first_free()) - now)
                break
            end
            take(lane, ARGV[i])
        end
        granted = granted + 1
    end
    at = last + 1
    if granted > 0 then live[lane](lease) end
    local me = lane .. ':' .. process
    staying = staying - granted
    if wait > 0 and staying > 0 then
        local asks_by = now + math.min(wait, poll) + 50000
        line[me] = {lane, asks_by, staying, process}
        redis.call('HSET', KEYS[8], me, whole(asks_by) .. ':' .. staying)
        redis.call('PEXPIRE', KEYS[8], 5000)
    elseif line[me] then
        line[me] = nil
        redis.call('HDEL', KEYS[8], me)
    end
    blocked = blocked or wait > 0
    answers[#answers + 1] = granted
    answers[#answers + 1] = wait
end
if not blocked then return {held, answers} end
"""

_OUTLOOK: Final = (
    """
local frees, others, slots, times = {}, {0, 0, 0, 0, 0}, nil, nil
"""
    + _for_each(
        _SETS,
        """
slots, times = redis.call('ZRANGE', KEYS[@], 0, -1, 'WITHSCORES'), {}
for i = 2, #slots, 2 do times[#times + 1] = slots[i] - now end
frees[@] = times
""",
    )
    + """
for _, group in pairs(line) do
    if group[4] ~= process then others[group[1]] = others[group[1]] + group[3] end
end
for i = 1, 5 do starts[i] = starts[i] - now end
return {held, answers, capacity, frees, starts, others}
"""
)

# Returns nothing if no caller asked; otherwise how many slots each lane holds, and for each lane
# that asked how many of its members have a slot now and the microseconds until it is worth asking
# again, 0 if all have one. Where some have none, also what an `Outlook` is made of: the capacity,
# when each slot comes free, when each lane may start, and how many callers wait elsewhere.
ROUND: Final = _START + _REPORTS + _RESTART + _COUNT + _RULES + _SOONEST + _ASKS + _OUTLOOK

SLOW: Final = (
    _START
    + _COUNT
    + """
if taken >= limit or (pace[2] and now - pace[2] < 60000000) then return {taken, 0} end
local calls_now = math.max(1, math.floor(math.min(taken, capacity) * 7 / 10))
redis.call('HSET', KEYS[7], 'pace', calls_now, 'slowed', now)
return {taken, calls_now}
"""
)
