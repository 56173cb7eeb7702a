-- KEYS: the keys of a channel, a hash; and when each of them expires, a sorted set.
--
-- A key's value in the hash is 'expires first-id last-id content'; key and content are 16 bytes, and the times are
-- milliseconds of this Redis, which makes the ids as well. Keys do not expire in the order in which they came: nodes may
-- have different windows, and the clock may be set back.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Forgets up to `most` expired keys, the oldest first; returns how many. An error only ends it: no answer hangs on it.
local function expire_keys(most)
    local expired = redis.pcall('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, most)
    if expired.err then return 0 end
    for count, key in ipairs(expired) do
        if type(redis.pcall('HDEL', KEYS[1], key)) ~= 'number' then return count - 1 end
        if type(redis.pcall('ZREM', KEYS[2], key)) ~= 'number' then return count - 1 end
    end
    return #expired
end
