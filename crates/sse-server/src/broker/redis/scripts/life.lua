-- What is stored about a channel besides its events. Other scripts begin with this text, after that of
-- expire_keys.lua, or after a definition of `now_ms`.
--
-- The hash `life` has these fields:
--   incarnation  the number of the incarnation
--   start        the id after which it begins
--   settings     five numbers or '-', in the order of `ChannelSettings::to_array`
--   alive        the time at which it was created or kept alive last
--   end          'id after has_events reason' of the end; see `EndMark`
--   emptied      'last entries' when all events were removed: the last id, and how many entries were
--                missing in the stream then
--   copied       1 if `sse-server copy` has created the channel; see copy.lua
--   holes        1 if such a channel has entries in place of damaged records
-- A channel of format 1 has no hash. The sorted set `deleted` has one member,
-- 'last end at has_events incarnation', with the time of the deletion as its score; see `Tombstone`.

local HISTORY_EVENTS, HISTORY_AGE, TTL, TTL_CLOSED = 1, 2, 4, 5
-- Redis rejects every XADD after this id.
local MAX_ID = '18446744073709551615-18446744073709551615'
local DEFAULT_SETTINGS = '- - - - -'

-- The scores of the sorted set `due` are the times at which channels must be looked at, and never later.
-- A channel that needs nothing before its next write is quiet. Its score is the time of its last write
-- plus this number, so the channel that is quiet for longest comes first.
local QUIET = 2^51
-- How long a tombstone is kept.
local TOMBSTONE_MS = 24 * 60 * 60 * 1000

-- Pause between two looks at a channel in use, by the age up to which it keeps events.
local function pause_ms(age_ms) return math.floor(math.min(age_ms / 4, 60000)) end

local function ms_of(id) return tonumber(string.match(id, '^%d+')) end

-- An id above `id`, by the clock or in the millisecond after it.
local function id_after(id)
    local ms = ms_of(id)
    return string.format('%.0f-0', now_ms > ms and now_ms or ms + 1)
end

-- Returns a setting of a channel or of its class; nil if both have none.
local function setting(own, class, nth)
    for _, settings in ipairs({ own, class }) do
        local at = 1
        for value in string.gmatch(settings, '%S+') do
            if at == nth and value ~= '-' then return tonumber(value) end
            at = at + 1
        end
    end
end

local function read_tombstone(deleted)
    local member = redis.call('ZRANGE', deleted, -1, -1)[1]
    if not member then return nil end
    local last, finish, at = string.match(member, '^(%S+) (%S+) (%S+) ')
    return last and { last = last, finish = finish, at = at, member = member }
end

-- Reads a channel. `last` is the last id before the end, or the id after which the channel begins.
local function read_channel(stream, life, deleted)
    local channel = { stream = stream, life = life, exists = redis.call('EXISTS', stream) == 1,
        tombstone = read_tombstone(deleted) }
    local start = channel.tombstone and channel.tombstone.at or '0-0'
    channel.last, channel.settings, channel.incarnation = start, DEFAULT_SETTINGS, ''
    if not channel.exists then return channel end
    local fields = redis.call('HMGET', life, 'incarnation', 'start', 'settings', 'alive', 'end')
    channel.incarnation, channel.settings = fields[1] or '0', fields[3] or DEFAULT_SETTINGS
    channel.start, channel.alive_ms = fields[2] or '0-0', tonumber(fields[4] or nil) or 0
    local info = redis.call('XINFO', 'STREAM', stream)
    for at = 1, #info, 2 do
        if info[at] == 'last-generated-id' then channel.last = info[at + 1] end
        if info[at] == 'first-entry' and info[at + 1] then channel.oldest = info[at + 1][1] end
    end
    if fields[5] then
        local id, after, has_events, reason = string.match(fields[5], '^(%S+) (%S+) (%d) (%S+)$')
        channel.finish = { id = id, reason = reason }
        channel.last, channel.has_events = after, has_events == '1'
    else
        channel.has_events = channel.last ~= channel.start
    end
    return channel
end

-- Creates a channel without an event. Returns an error if Redis rejects it.
local function create_channel(channel, settings, random)
    -- The only command that makes a stream without an entry.
    local made = redis.pcall('XGROUP', 'CREATE', channel.stream, 'made', '$', 'MKSTREAM')
    if made.err then return made end
    redis.call('XGROUP', 'DESTROY', channel.stream, 'made')
    if channel.last ~= '0-0' then redis.call('XSETID', channel.stream, channel.last) end
    channel.incarnation = string.format('%.0f%06d', now_ms, random)
    channel.exists, channel.start, channel.settings = true, channel.last, settings
    redis.call('HSET', channel.life, 'incarnation', channel.incarnation, 'start', channel.start,
        'settings', settings, 'alive', string.format('%.0f', now_ms))
end

-- Creates a channel because something is appended to it, and registers it in `sets`. Returns an error
-- if Redis rejects it.
local function create_for_append(channel, name, settings, random, sets)
    local rejected = create_channel(channel, settings, random)
    if rejected then return rejected end
    redis.call('ZADD', sets.registry, 0, name)
    redis.call('ZADD', sets.index, 0, name)
end

-- Ensures after a write that the channel is looked at in time. `keys_ms` is how long the keys of the
-- write are known, if it has any.
local function index_write(channel, name, class, age_max_ms, keys_ms, due)
    local age_ms = setting(channel.settings, class, HISTORY_AGE) or tonumber(age_max_ms)
    local earliest = now_ms + pause_ms(age_ms)
    local oldest_ms = channel.oldest and ms_of(channel.oldest) or now_ms
    local due_ms = math.max(oldest_ms + age_ms, earliest)
    local ttl_ms = setting(channel.settings, class, channel.finish and TTL_CLOSED or TTL)
    if ttl_ms then due_ms = math.min(due_ms, now_ms + ttl_ms) end
    if keys_ms then due_ms = math.min(due_ms, math.max(now_ms + keys_ms, earliest)) end
    redis.call('ZADD', due, 'LT', due_ms, name)
end

-- Deletes a channel and leaves a tombstone, which it returns. `others` are the remaining keys of the
-- channel.
local function delete_channel(channel, name, others, deleted, sets)
    local finish = channel.finish and channel.finish.id or id_after(channel.last)
    local at = id_after(finish)
    redis.call('UNLINK', channel.stream, channel.life, unpack(others))
    redis.call('ZREM', sets.registry, name)
    redis.call('ZREM', sets.index, name)
    local has_events = channel.has_events and 1 or 0
    local member = string.format('%s %s %s %d %s', channel.last, finish, at, has_events,
        channel.incarnation)
    redis.call('DEL', deleted)
    redis.call('ZADD', deleted, ms_of(at), member)
    redis.call('ZADD', sets.tombstones, ms_of(at), name)
    redis.call('ZADD', sets.due, ms_of(at) + TOMBSTONE_MS, name)
    if redis.call('ZCARD', sets.tombstones) > sets.tombstones_max then
        redis.call('ZADD', sets.due, now_ms, redis.call('ZRANGE', sets.tombstones, 0, 0)[1])
    end
    if not sets.waits then redis.pcall('PUBLISH', channel.stream, '') end
    return member
end
