-- Restarts the time to live of a channel. This text continues life.lua.
--
-- KEYS[1…] stream, life, deleted
-- ARGV[1]  incarnation  the one that must still exist
--
-- Reply: 1, or 0 if the channel has another incarnation

local channel = read_channel(KEYS[1], KEYS[2], KEYS[3])
if not channel.exists or channel.incarnation ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], 'alive', string.format('%.0f', now_ms))
return 1
