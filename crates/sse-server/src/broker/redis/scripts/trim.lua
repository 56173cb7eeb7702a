-- Trims a stream by age, or forgets a dead channel. Both happen in one step, so that no new event
-- can come between the check and the deletion.
--
-- KEYS[1]  stream     the stream of the channel
-- KEYS[2]  registry   all channels, a sorted set by the time of their first use
-- KEYS[3]  keys       the idempotency keys of the channel, a hash
-- KEYS[4]  gap_index  the index of its gap records, a stream
-- KEYS[5]  trimmed    where the stream was last trimmed by age, a string: 'newest-trimmed
-- oldest-kept'
-- KEYS[6…] life, deleted, expiries, index, due, tombstones: see life.lua, whose text precedes this one
--
-- ARGV[1]  channel        the name of the channel
-- ARGV[2]  age_max_ms     the age up to which events are kept, by Redis' clock, which makes the ids
-- ARGV[3]  may_forget     1 if a dead channel is to be forgotten, otherwise 0
-- ARGV[4]  unused_min_ms  the age from which a registration without a stream is forgotten
-- ARGV[5]  class          the settings of its class
--
-- Reply: {forgotten, events, bytes, keys}
--   forgotten  1 if the channel was forgotten, otherwise 0
--   events     number of entries in the stream
--   bytes      memory of the stream, which Redis estimates from a few of its nodes; 0 if this user
--   may
--              not run MEMORY USAGE
--   keys       number of idempotency keys of the channel
--
-- A channel is dead if its newest event is too old, it has no idempotency keys, and no node
-- subscribes to it. The newest event of any other channel stays, however old it is: it proves that
-- a subscriber that has seen everything missed nothing.
--
-- Redis does not record which entries it trims, so this script does. A subscriber that has seen the
-- newest trimmed event missed nothing as long as the event after it is the oldest one. Otherwise it
-- would get a false gap if a trim comes between an append and its read.

local stream, registry, keys, gap_index, trimmed = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local channel, age_max_ms, may_forget, unused_min_ms = ARGV[1], ARGV[2], ARGV[3] == '1', ARGV[4]

local function kept()
    local bytes = redis.pcall('MEMORY', 'USAGE', stream)
    local key_count = redis.pcall('HLEN', keys)
    return { 0, redis.call('XLEN', stream), type(bytes) == 'number' and bytes or 0,
        type(key_count) == 'number' and key_count or 0 }
end

local channel_state = read_channel(stream, KEYS[6], KEYS[7])
age_max_ms = setting(channel_state.settings, ARGV[5], HISTORY_AGE) or tonumber(age_max_ms)
local oldest_kept_ms = now_ms - age_max_ms
local events_max = setting(channel_state.settings, ARGV[5], HISTORY_EVENTS)
if events_max and channel_state.exists then
    redis.call('XTRIM', stream, 'MAXLEN', '~', events_max)
end

local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
if not newest then
    -- Registered, but without an event: its first publish failed, or is about to come.
    local registered_ms = tonumber(redis.call('ZSCORE', registry, channel) or nil)
    if redis.call('EXISTS', stream) == 0 and registered_ms
        and registered_ms < now_ms - unused_min_ms then
        redis.call('ZREM', registry, channel)
        redis.call('ZREM', KEYS[9], channel)
        return { 1, 0, 0, 0 }
    end
    return kept()
end

local newest_ms = tonumber(string.match(newest[1], '^%d+'))
local is_dead = newest_ms < oldest_kept_ms and redis.call('EXISTS', keys) == 0
if may_forget and is_dead and redis.call('PUBSUB', 'NUMSUB', stream)[2] == 0 then
    if channel_state.finish then
        -- Readers of its end need a tombstone.
        delete_channel(channel_state, channel, { keys, KEYS[8], gap_index, trimmed }, KEYS[7],
            { registry = registry, index = KEYS[9], due = KEYS[10], tombstones = KEYS[11] })
    else
        redis.call('DEL', stream, gap_index, trimmed, KEYS[6])
        for _, set in ipairs({ registry, KEYS[9], KEYS[10] }) do redis.call('ZREM', set, channel) end
    end
    return { 1, 0, 0, 0 }
end
local minid = newest_ms < oldest_kept_ms and newest[1]
    or string.format('%.0f-0', math.max(oldest_kept_ms, 0))
local newest_trimmed = redis.call('XREVRANGE', stream, '(' .. minid, '-', 'COUNT', 1)[1]
if newest_trimmed then
    local oldest_kept = redis.call('XRANGE', stream, minid, '+', 'COUNT', 1)[1]
    redis.call('XTRIM', stream, 'MINID', minid)
    -- A Redis at its maxmemory rejects this write. It must not keep the stream from being trimmed.
    redis.pcall('SET', trimmed, newest_trimmed[1] .. ' ' .. oldest_kept[1])
end
return kept()
