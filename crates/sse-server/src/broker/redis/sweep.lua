-- KEYS: the keys of a channel, a hash; and the order in which they expire, a list.
--
-- A key's value in the hash is 'expires first-id last-id content', an item of the list 'expires key'; key and content are
-- 16 bytes, and the times are milliseconds of this Redis, which makes the ids as well.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Forgets up to `most` expired keys, the oldest first; returns how many. An error only ends it: no answer hangs on it.
local function sweep(most)
    for count = 1, most do
        local item = redis.pcall('LINDEX', KEYS[2], 0)
        if type(item) ~= 'string' then return count - 1 end
        local expires, key = string.sub(item, 1, -18), string.sub(item, -16)
        if tonumber(expires) > now then return count - 1 end
        if type(redis.pcall('LPOP', KEYS[2])) ~= 'string' then return count - 1 end
        -- The key may have come again since.
        local value = redis.pcall('HGET', KEYS[1], key)
        if type(value) == 'string' and string.match(value, '^%d+') == expires then
            redis.pcall('HDEL', KEYS[1], key)
        end
    end
    return most
end

