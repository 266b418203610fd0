"""The rules of `policy/quota.py` as Lua, one script for each operation: only a script is atomic."""

from __future__ import annotations

from typing import Final

from wxpay_async.policy.lanes import Lane

PLACES: Final = {lane: place for place, lane in enumerate(Lane, start=1)}
"""The number of each lane among the keys of the scripts."""

CLOCK: Final = "redis.call('TIME')"

# KEYS: the slots of each lane, in the order of the lanes; those of an earlier process; the state;
# who waits.
COUNT: Final = f"""
local clock = {CLOCK}
local now = clock[1] * 1000000 + clock[2]
local limit, recovery = tonumber(ARGV[1]), tonumber(ARGV[2])
local state, held, taken = KEYS[7], {{}}, 0
for i = 1, 6 do
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
    held[i] = redis.call('ZCARD', KEYS[i])
    taken = taken + held[i]
end
local capacity, step_at = limit, math.huge
local pace = redis.call('HMGET', state, 'pace', 'slowed')
if pace[1] then
    local minutes = math.floor((now - pace[2]) / 60000000)
    local recovered = pace[1] + minutes * recovery
    if recovered < limit then
        capacity, step_at = recovered, pace[2] + (minutes + 1) * 60000000
    end
end
"""

# Returns 0 when the slot was taken, else the microseconds until it is worth asking again; and how
# many slots each lane holds. With the microseconds, what an `Outlook` is made of: the capacity,
# when each slot comes free, when each lane may start, and who waits in other processes.
TAKE: Final = (
    f"""
if redis.call('HSETNX', KEYS[7], 'lanes', 1) == 1 and ARGV[7] == '0' then
    local clock = {CLOCK}
    local free = clock[1] * 1000000 + clock[2] + ARGV[6]
    for i = 1, math.floor(ARGV[1] / 2) do redis.call('ZADD', KEYS[6], free, 'before:' .. i) end
    redis.call('PEXPIRE', KEYS[6], math.ceil(ARGV[6] / 1000))
end
"""
    + COUNT
    + """
local lane, member, lease = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local keep, period, process = tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10]
local waiters, poll = tonumber(ARGV[11]), tonumber(ARGV[12])
local function share(i) return math.max(1, math.floor(capacity * ARGV[12 + i] / limit)) end
local function whole(number) return string.format('%.0f', number) end

local starts, others, yields, free = {}, {}, false, step_at
for i = 1, 5 do
    starts[i] = tonumber(redis.call('HGET', state, 'next:' .. i) or 0)
    others[i] = 0
end
-- Whether the pace and the share of a lane let it go, apart from those of all machines together.
local function ready(i) return i == 1 or (now >= starts[i] and held[i] < share(i)) end
local waiting = redis.call('HGETALL', KEYS[8])
for i = 1, #waiting, 2 do
    local where, who = waiting[i]:match('^(%d):(.*)$')
    local asks_by, size = waiting[i + 1]:match('^(%d+):(%d+)$')
    where, asks_by = tonumber(where), tonumber(asks_by)
    if asks_by <= now then
        redis.call('HDEL', KEYS[8], waiting[i])
    else
        if who ~= process then others[where] = others[where] + size end
        if where < lane and ready(where) then
            yields, free = true, math.min(free, asks_by)
        end
    end
end

local machines = held[2] + held[3] + held[4] + held[5]
local room, starts_at = capacity, 0
if lane == 1 then
    room = math.max(capacity, math.min(limit, taken - held[1] + keep))
else
    starts_at = math.max(starts[lane], starts[4]) -- batches have the pace of all machines together
end
local me = lane .. ':' .. process
local may = lane == 1 or (now >= starts_at and machines < share(4))
if taken < room and ready(lane) and may and not yields then
    redis.call('ZADD', KEYS[lane], now + lease, member)
    redis.call('PEXPIRE', KEYS[lane], math.ceil(lease / 1000))
    if lane > 1 then
        local function after(calls) return whole(now + math.ceil(period / calls)) end
        local left = capacity - held[1] + math.floor(limit / 20)
        local together = math.min(share(4), math.max(1, left, math.floor(capacity / 2)))
        redis.call('HSET', state, 'next:' .. lane, after(share(lane)), 'next:4', after(together))
    end
    redis.call('HDEL', KEYS[8], me)
    held[lane] = held[lane] + 1
    return {0, held}
end
if now < starts_at then free = math.min(free, starts_at) end
local frees = {}
for i = 1, 6 do
    local slots, times = redis.call('ZRANGE', KEYS[i], 0, -1, 'WITHSCORES'), {}
    for j = 2, #slots, 2 do times[#times + 1] = slots[j] - now end
    if times[1] then free = math.min(free, now + times[1]) end
    frees[i] = times
end
local wait = math.max(1, free - now)
if waiters > 0 then
    local asks_by = whole(now + math.min(wait, poll) + 50000)
    redis.call('HSET', KEYS[8], me, asks_by .. ':' .. waiters)
    redis.call('PEXPIRE', KEYS[8], 5000)
end
for i = 1, 5 do starts[i] = math.max(0, starts[i] - now) end
return {wait, held, capacity, frees, starts, others}
"""
)

# A negative time releases the slot. Otherwise it is taken from now on, even if the lease is over.
END: Final = f"""
if tonumber(ARGV[2]) < 0 then return redis.call('ZREM', KEYS[1], ARGV[1]) end
local clock = {CLOCK}
redis.call('ZADD', KEYS[1], clock[1] * 1000000 + clock[2] + ARGV[2], ARGV[1])
if redis.call('PTTL', KEYS[1]) < ARGV[2] / 1000 then
    redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000))
end
return 0
"""

SLOW: Final = (
    COUNT
    + """
if taken >= limit or (pace[2] and now - pace[2] < 60000000) then return {taken, 0} end
local calls_now = math.max(1, math.floor(math.min(taken, capacity) * 7 / 10))
redis.call('HSET', state, 'pace', calls_now, 'slowed', now)
return {taken, calls_now}
"""
)
