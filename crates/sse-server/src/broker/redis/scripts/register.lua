-- Registers a channel before its first event, so that channels in the making count.
--
-- KEYS[1]  registry  the channels of the slot, a sorted set
-- KEYS[2]  index     all channels by name, or the registry again in a Redis Cluster, a sorted set
-- KEYS[3]  due       the channels of the slot by the time of their next maintenance, a sorted set
--
-- ARGV[1]  channel       the name of the channel
-- ARGV[2]  channels_max  how many channels there may be
-- ARGV[3]  unused_ms     how long the channel may stay without an event
-- ARGV[4]  elsewhere     how many channels the indexes of other slots have
--
-- Reply: how many channels there are, and 1 if this call has added the channel, otherwise 0; the
-- second number is -1 if there is no room for it. This text continues now.lua.

local channels = redis.call('ZCARD', KEYS[2]) + ARGV[4]
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then return { channels, 0 } end
if channels >= tonumber(ARGV[2]) then return { channels, -1 } end
redis.call('ZADD', KEYS[1], 0, ARGV[1])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
redis.call('ZADD', KEYS[3], 'LT', now_ms + ARGV[3], ARGV[1])
return { channels + 1, 1 }
