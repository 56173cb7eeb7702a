-- Removes tombstones whose time is over, and the oldest ones beyond a number.
--
-- KEYS[1]  tombstones  deleted channels by the time of their deletion, a sorted set
-- ARGV[1]  life_ms     how long a tombstone is kept
-- ARGV[2]  count_max   how many are kept
-- ARGV[3]  batch       how many are removed at once
-- ARGV[4]  prefix      the prefix of all keys
--
-- Reply: how many were removed. This text continues now.lua.

local over = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms - ARGV[1], 'LIMIT', 0, ARGV[3])
local excess = redis.call('ZCARD', KEYS[1]) - #over - ARGV[2]
if #over == 0 and excess > 0 then
    over = redis.call('ZRANGE', KEYS[1], 0, math.min(excess, tonumber(ARGV[3])) - 1)
end
for _, name in ipairs(over) do
    redis.call('UNLINK', ARGV[4] .. '{' .. name .. '}:deleted')
    redis.call('ZREM', KEYS[1], name)
end
return #over
