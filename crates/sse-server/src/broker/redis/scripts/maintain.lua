-- Looks at a channel that is due: forgets expired idempotency keys, trims events by age, expires the
-- channel by its time to live, removes an old tombstone, and indexes the channel again. All of it is
-- one step, so no event can come between a check and a deletion.
--
-- This text continues expire_keys.lua, which defines `now_ms` and `expire_keys`, and life.lua.
--
-- KEYS[1]  keys        the idempotency keys of the channel, a hash
-- KEYS[2]  expiries    the same keys by the time at which each expires, a sorted set
-- KEYS[3…] stream, life, deleted
-- KEYS[6]  gap_index   the index of its gap records, a stream
-- KEYS[7]  trimmed     where the stream was last trimmed by age: 'newest-trimmed oldest-kept'
-- KEYS[8]  registry    the channels of the slot, a sorted set
-- KEYS[9]  index       all channels by name, a sorted set
-- KEYS[10] due         the channels of the slot by the time of their next maintenance, a sorted set
-- KEYS[11] tombstones  deleted channels of the slot by the time of their deletion, a sorted set
--
-- ARGV[1]  channel     the name of the channel
-- ARGV[2]  class       the settings of its class
-- ARGV[3]  age_max_ms  the age up to which events are kept; its own settings count first
-- ARGV[4]  quiet_ms    how long after its last write a channel can be quiet
-- ARGV[5]  may_expire  1 if a time to live may end, otherwise 0
-- ARGV[6]  may_forget  1 if a dead channel is to be forgotten, otherwise 0
-- ARGV[7]  tombstones_max  how many tombstones the slot may have
--
-- Reply: 'kept'; 'emptied' or 'deleted', because its time to live is over; 'forgotten'
--
-- A channel is dead if its newest event is too old, it has no idempotency keys, and no node
-- subscribes to it. The newest event of any other channel stays, however old it is: it proves that
-- a subscriber that has seen everything missed nothing.
--
-- Redis does not record which entries it trims, so this script does. A subscriber that has seen the
-- newest trimmed event missed nothing as long as the event after it is the oldest one. Otherwise it
-- would get a false gap if a trim comes between an append and its read.

local keys, expiries, stream, trimmed = KEYS[1], KEYS[2], KEYS[3], KEYS[7]
local name, class, quiet_ms = ARGV[1], ARGV[2], tonumber(ARGV[4])
local may_expire, may_forget = ARGV[5] == '1', ARGV[6] == '1'
local sets = { registry = KEYS[8], index = KEYS[9], due = KEYS[10], tombstones = KEYS[11],
    tombstones_max = tonumber(ARGV[7]) }
local others = { keys, expiries, KEYS[6], trimmed }
local KEYS_PER_VISIT = 1000

local function unregister()
    for _, set in ipairs({ sets.registry, sets.index, sets.due }) do redis.call('ZREM', set, name) end
end

-- A full Redis rejects a script only at its first write, and never because of ZREM.
local function index_at(score)
    redis.call('ZREM', sets.due, name)
    redis.call('ZADD', sets.due, score, name)
end

-- Removes a tombstone whose time is over, or one of the oldest if the slot has too many. Returns when
-- it is to be removed otherwise.
local function expire_tombstone(tombstone)
    local over_ms = ms_of(tombstone.at) + TOMBSTONE_MS
    local excess = redis.call('ZCARD', sets.tombstones) - sets.tombstones_max
    local is_excess = (redis.call('ZRANK', sets.tombstones, name) or 0) < excess
    if over_ms > now_ms and not is_excess then return over_ms end
    redis.call('UNLINK', KEYS[5])
    redis.call('ZREM', sets.tombstones, name)
end

local channel = read_channel(stream, KEYS[4], KEYS[5])
local tombstone_ms = channel.tombstone and expire_tombstone(channel.tombstone)
if not channel.exists then
    -- It was deleted, or its first publish failed. A publish that comes now registers it again.
    unregister()
    if tombstone_ms then redis.call('ZADD', sets.due, tombstone_ms, name) end
    return tombstone_ms and 'kept' or 'forgotten'
end

local age_ms = setting(channel.settings, class, HISTORY_AGE) or tonumber(ARGV[3])
local earliest = now_ms + pause_ms(age_ms)
local due_ms = tombstone_ms
local function due_at(ms) if not due_ms or ms < due_ms then due_ms = ms end end

-- Step 1: idempotency keys.
local forgotten = expire_keys(KEYS_PER_VISIT)
local first_key = redis.call('ZRANGE', expiries, 0, 0, 'WITHSCORES')[2]
if first_key then
    due_at(forgotten == KEYS_PER_VISIT and now_ms or math.max(tonumber(first_key), earliest))
end

-- Step 2: the time to live, which does not end before that of the last key.
local written_ms = channel.finish and ms_of(channel.finish.id)
    or math.max(ms_of(channel.last), channel.alive_ms)
-- A write without a script does not index the channel. It comes at most some seconds after one that
-- does, and then the channel is not quiet yet.
local quiet_at = math.min(written_ms, now_ms) + quiet_ms
local ttl_ms = setting(channel.settings, class, channel.finish and TTL_CLOSED or TTL)
local result = 'kept'
if ttl_ms and (channel.finish or channel.oldest) then
    local last_key = redis.call('ZREVRANGE', expiries, 0, 0, 'WITHSCORES')[2]
    local over_ms = math.max(written_ms + ttl_ms, tonumber(last_key or nil) or 0)
    if over_ms > now_ms then
        due_at(over_ms)
    elseif not may_expire then
        due_at(now_ms + 60000)
    elseif channel.finish then
        delete_channel(channel, name, others, KEYS[5], sets)
        return 'deleted'
    else
        redis.call('XTRIM', stream, 'MAXLEN', 0)
        -- A reader at the last id has seen everything as long as no other entry is missing.
        local fields = redis.call('XINFO', 'STREAM', stream)
        for at = 1, #fields, 2 do
            if fields[at] == 'entries-added' then
                redis.call('HSET', KEYS[4], 'emptied',
                    string.format('%s %.0f', channel.last, fields[at + 1]))
            end
        end
        result = 'emptied'
    end
end

-- Step 3: the number and the age of the events.
local events_max = setting(channel.settings, class, HISTORY_EVENTS)
if events_max then redis.call('XTRIM', stream, 'MAXLEN', '~', events_max) end
local oldest_kept_ms = now_ms - age_ms
local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
if newest then
    local minid = ms_of(newest[1]) < oldest_kept_ms and newest[1]
        or string.format('%.0f-0', math.max(oldest_kept_ms, 0))
    local newest_trimmed = redis.call('XREVRANGE', stream, '(' .. minid, '-', 'COUNT', 1)[1]
    local oldest = redis.call('XRANGE', stream, minid, '+', 'COUNT', 1)[1]
    if newest_trimmed then
        redis.call('XTRIM', stream, 'MINID', minid)
        redis.call('SET', trimmed, newest_trimmed[1] .. ' ' .. oldest[1])
    end
    if oldest[1] ~= newest[1] or quiet_at > now_ms then
        due_at(math.max(ms_of(oldest[1]) + age_ms, earliest))
    end
elseif quiet_at > now_ms then
    due_at(quiet_at)
end

-- Step 4: a dead channel.
local is_old = math.min(written_ms, now_ms) < oldest_kept_ms and not first_key
local is_wanted = may_forget and redis.call('PUBSUB', 'NUMSUB', stream)[2] > 0
if may_forget and is_old and not is_wanted then
    if channel.finish then
        -- Readers of its end need a tombstone.
        delete_channel(channel, name, others, KEYS[5], sets)
    else
        redis.call('UNLINK', stream, KEYS[4], unpack(others))
        unregister()
    end
    return 'forgotten'
end

-- Step 5: nothing is due before the next write.
if not due_ms then due_ms = QUIET + (is_wanted and now_ms or quiet_at) end
index_at(due_ms)
return result
