-- Replaces the settings of a channel, and creates it if it does not exist. This text continues
-- life.lua.
--
-- KEYS[1…] stream, life, deleted, registry, index, due
-- ARGV[1]  channel   the name of the channel
-- ARGV[2]  settings  the new settings
-- ARGV[3]  random    a random number below a million
-- ARGV[4]  waits     1 if the caller waits for replicas, otherwise 0
--
-- Reply: 'created', 'changed', 'same', or 'channel_closed', reason, end

local channel = read_channel(KEYS[1], KEYS[2], KEYS[3])
local word = 'changed'
if not channel.exists then
    local rejected = create_channel(channel, ARGV[2], ARGV[3])
    if rejected then return rejected end
    redis.call('ZADD', KEYS[4], 0, ARGV[1])
    redis.call('ZADD', KEYS[5], 0, ARGV[1])
    word = 'created'
elseif channel.settings == ARGV[2] then
    -- WAIT covers only what this connection has written, so known settings are written again.
    if ARGV[4] == '1' then redis.call('HSET', KEYS[2], 'settings', ARGV[2]) end
    return {'same'}
else
    local function without_ttl_closed(settings) return string.match(settings, '^(.*) %S+$') end
    if channel.finish and without_ttl_closed(channel.settings) ~= without_ttl_closed(ARGV[2]) then
        return {'channel_closed', channel.finish.reason, channel.finish.id}
    end
    redis.call('HSET', KEYS[2], 'settings', ARGV[2])
end
-- Maintenance computes when the channel is due by the new settings.
redis.call('ZADD', KEYS[6], 'LT', now_ms, ARGV[1])
return {word}
