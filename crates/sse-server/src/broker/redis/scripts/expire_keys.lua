-- Forgets expired idempotency keys. Other scripts begin with this text: it defines `now_ms` and
-- `expire_keys`, and has no reply of its own.
--
-- KEYS[1]  keys      the idempotency keys of a channel, a hash
-- KEYS[2]  expiries  a sorted set: the same keys by the time at which each expires
--
-- A value of the hash is 'expires first-id last-id owner content', for example
-- '1700000600000 1700000000000-0 1700000000000-2 00f1a2b3c4d5e6f7 <16 bytes>'. Values of earlier
-- versions have no owner, and earlier versions read only the ends of a value. Keys and contents are
-- fingerprints of 16 bytes. Times are milliseconds of this Redis' clock, which also makes the ids. Keys do not
-- expire in the order in which they came: nodes may have different windows, and the clock may be
-- set back.

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

-- Forgets up to `count_max` expired keys, the oldest first; returns how many it forgot. An error
-- only ends it, because no reply depends on it.
local function expire_keys(count_max)
    local expired = redis.pcall('ZRANGEBYSCORE', KEYS[2], '-inf', now_ms, 'LIMIT', 0, count_max)
    if expired.err then return 0 end
    for count, key in ipairs(expired) do
        if type(redis.pcall('HDEL', KEYS[1], key)) ~= 'number' then return count - 1 end
        if type(redis.pcall('ZREM', KEYS[2], key)) ~= 'number' then return count - 1 end
    end
    return #expired
end
