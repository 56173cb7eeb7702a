-- Appends messages of Flask-SSE that are not in the log yet, in one step. Any node may run it any
-- number of times with the same messages.
--
-- This text continues now.lua, life.lua and first_id.lua, which define `now_ms`, the state of a channel
-- and `choose_first_id`.
--
-- A message has an identity that is the same on every node: a marker, and how many messages of the
-- channel came since that marker. `appended` has how many messages of a marker are in the log or
-- were dropped, so all messages up to that count are done.
--
-- KEYS[1]  stream    the stream of the channel
-- KEYS[2]  appended  a hash: marker -> count
-- KEYS[3]  markers   a sorted set: the same markers by the time of their last append
-- KEYS[4]  life      what is stored about the channel besides its events, a hash
-- KEYS[5]  deleted   its tombstone, a sorted set
-- KEYS[6]  registry  the channels of the slot, a sorted set
-- KEYS[7]  index     all channels by name, a sorted set
-- KEYS[8]  due       the channels of the slot by the time of their next maintenance, a sorted set
--
-- ARGV[1]  events_max   how many events the stream keeps, about; its own settings count first
-- ARGV[2]  is_first     1 for the node's first append to this channel on its connection, otherwise 0
-- ARGV[3]  random       a random number below a million
-- ARGV[4]  kept_ms      how long a marker is kept after its last append
-- ARGV[5]  marker       the marker of all messages
-- ARGV[6]  last_count   the count of the last message; messages that the node dropped are counted
-- ARGV[7]  channel      the name of the channel
-- ARGV[8]  class        the settings of its class
-- ARGV[9]  is_explicit  1 if only `PUT` creates the channel
-- ARGV[10] refuses      1 if a deleted channel accepts no write while its tombstone is kept
-- ARGV[11] age_max_ms   the age up to which events are kept; its own settings count first
-- then per message, from ARGV[12] on:
--          count        the count of the message
--          id           the id of the message, if it has the form of an event id; otherwise empty
--          type, data   of the event
--
-- A message with an id is our own event that came back (an *echo*), if the event has the same type
-- and data and did not come from Flask. If the id is older than all kept events, the event may have
-- been trimmed or deleted, and the message is dropped. Any other message is Flask's. It is dropped if
-- the channel is closed, or may not be created by an append.
--
-- Reply: {appended, duplicates, echoes, old_ids, last_id, done, refused, incarnation, settings}
--   appended    messages that were appended
--   duplicates  messages that were done before
--   echoes      messages that are our own events
--   old_ids     messages with an id that is older than all kept events
--   last_id     id of the last appended event; empty if there is none
--   done        the count up to which the messages of the marker are done now. It is below
--               last_count if Redis rejected an append after the first one.
--   refused     messages that were dropped because of the state of the channel
--   incarnation, settings of the channel; the incarnation is empty if there is no channel

local stream, appended, markers = KEYS[1], KEYS[2], KEYS[3]
local events_max, is_first, random = ARGV[1], ARGV[2] == '1', ARGV[3]
local kept_ms, marker, last_count = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])

local done = tonumber(redis.call('HGET', appended, marker) or 0)
-- Fails now, and not after an append, if `markers` is a key of another type.
redis.call('ZCARD', markers)
local channel, class = read_channel(stream, KEYS[4], KEYS[5]), ARGV[8]
local accepts = not channel.finish
if not channel.exists then
    accepts = ARGV[9] ~= '1' and not (channel.tombstone and ARGV[10] == '1')
end

local function is_echo(entry, kind, data)
    local is_same_type, is_same_data = false, false
    for field = 1, #entry, 2 do
        local name, value = entry[field], entry[field + 1]
        if name == 'flask' then return false end
        if name == 'event' then is_same_type = value == kind end
        if name == 'data' then is_same_data = value == data end
    end
    return is_same_type and is_same_data
end

-- Returns 'echo', 'old' or 'new'.
local function judge(id, kind, data)
    if id == '' then return 'new' end
    local entry = redis.call('XRANGE', stream, id, id)[1]
    if entry then return is_echo(entry[2], kind, data) and 'echo' or 'new' end
    if redis.call('XRANGE', stream, '-', id, 'COUNT', 1)[1] then return 'new' end
    -- A channel without events may have had the event before it was emptied or deleted.
    local may_be_own = redis.call('XLEN', stream) > 0 or ms_of(id) <= ms_of(channel.last)
    return may_be_own and 'old' or 'new'
end

-- Returns an error if Redis rejects the event.
local function append(kind, data, next_id)
    if not channel.exists then
        local rejected = create_for_append(channel, ARGV[7], DEFAULT_SETTINGS, random,
            { registry = KEYS[6], index = KEYS[7], due = KEYS[8] })
        if rejected then return rejected end
    end
    -- A number that is set for this channel is exact.
    local own_max = setting(channel.settings, class, HISTORY_EVENTS)
    return redis.pcall('XADD', stream, 'MAXLEN', own_max and '=' or '~', own_max or events_max,
        next_id, 'event', kind, 'data', data, 'flask', '1')
end

local counts = { new = 0, done = 0, echo = 0, old = 0, refused = 0 }
local next_id = is_first and choose_first_id(channel.last, now_ms, random) or '*'
local last_id, failed, failed_count = '', nil, nil
for arg = 12, #ARGV, 4 do
    local count, id, kind, data = tonumber(ARGV[arg]), ARGV[arg + 1], ARGV[arg + 2], ARGV[arg + 3]
    local verdict = count <= done and 'done' or judge(id, kind, data)
    if verdict == 'new' and not accepts then verdict = 'refused' end
    if verdict == 'new' then
        local added = append(kind, data, next_id)
        if type(added) == 'table' then
            failed, failed_count = added, count
            break
        end
        last_id, next_id = added, '*'
    end
    counts[verdict] = counts[verdict] + 1
end

-- Messages after a failed one are appended by the next run.
local done_now = failed and failed_count - 1 or last_count
if failed and last_id == '' then return failed end
if done_now > done then
    redis.call('HSET', appended, marker, string.format('%.0f', done_now))
    redis.call('ZADD', markers, string.format('%.0f', now_ms), marker)
    for _, old in ipairs(redis.call('ZRANGEBYSCORE', markers, '-inf',
        string.format('%.0f', now_ms - kept_ms), 'LIMIT', 0, 16)) do
        redis.call('HDEL', appended, old)
        redis.call('ZREM', markers, old)
    end
end
-- A notification may fail: a node that misses it polls.
if counts.new > 0 then
    index_write(channel, ARGV[7], class, ARGV[11], nil, KEYS[8])
    redis.pcall('PUBLISH', stream, '')
end
return { counts.new, counts.done, counts.echo, counts.old, last_id, math.max(done, done_now),
    counts.refused, channel.incarnation, channel.settings }
