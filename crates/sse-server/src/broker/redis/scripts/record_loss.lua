-- Verifies that an event is still in its stream. If the event was lost, appends a gap record, once
-- for all nodes.
--
-- KEYS[1]  stream     the stream of the channel
-- KEYS[2]  gap_index  the index of its gap records, a stream
-- KEYS[3]  life       what is stored about the channel besides its events; see life.lua
-- KEYS[4]  deleted    its tombstone
-- KEYS[5…] registry, index, due: see write.lua
--
-- ARGV[1]  id           the id to verify
-- ARGV[2]  channel      the name of the channel
-- ARGV[3]  age_max_ms   the age up to which events are kept
-- ARGV[4]  records_max  how many records the index keeps
-- ARGV[5]  random       a random number below a million
-- ARGV[6]  known_ms     how long the node has known the id
-- ARGV[7…] older ids that the node knows, the newest first
--
-- Reply:
-- 'present'                           the event is still there
-- 'trimmed'                           the event may have been trimmed, so no record is needed
-- 'already_recorded', record, after   the event was lost, and a node has recorded it
-- 'recorded', record, after           the event was lost, and this call has recorded it
-- `record` is the id of the gap record, and `after` the newest id that survived before it:
--
--      A  B                    E          B = after; C and D were lost, and D = id
--            C  D  record                 every id between `after` and `record` counts as lost
--
-- Ids are compared as text, because numbers of Lua are exact up to 2^53 only.

local stream, gap_index = KEYS[1], KEYS[2]
local id, age_max_ms, random, known_ms = ARGV[1], ARGV[3], ARGV[5], ARGV[6]
local OLDER_IDS = 7

local function contains(key, entry_id) return #redis.call('XRANGE', key, entry_id, entry_id) > 0 end
local function is_less(a, b) return #a < #b or (#a == #b and a < b) end
local function is_before(a, b)
    local a_ms, a_seq = string.match(a, '^(%d+)%-(%d+)$')
    local b_ms, b_seq = string.match(b, '^(%d+)%-(%d+)$')
    if a_ms ~= b_ms then return is_less(a_ms, b_ms) end
    return is_less(a_seq, b_seq)
end
local function ms_of(entry_id) return tonumber(string.match(entry_id, '^%d+')) end

-- Step 1: the event is there, or was deleted, or another node has recorded a range that contains it.
-- An end is not an entry. Redis rejects a record behind an end, so a loss before it has none.
if contains(stream, id) then return {'present'} end
local tombstone = redis.call('ZRANGE', KEYS[4], -1, -1)[1]
local deleted_at = tombstone and string.match(tombstone, '^%S+ %S+ (%S+) ')
if deleted_at and not is_before(deleted_at, id) then return {'trimmed'} end
local finish = redis.call('HGET', KEYS[3], 'end')
if finish then
    return { string.match(finish, '^%S+') == id and 'present' or 'trimmed' }
end
for _, entry in ipairs(redis.call('XRANGE', gap_index, '(' .. id, '+')) do
    local record, after = entry[1], entry[2][2]
    if is_before(after, id) and contains(stream, record) then
        return {'already_recorded', record, after}
    end
end

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local is_old = ms_of(id) < now_ms - age_max_ms

local function newest_known_present()
    for at = OLDER_IDS, #ARGV do
        if contains(stream, ARGV[at]) then return ARGV[at] end
    end
    return '0-0'
end

-- Step 2: the event was trimmed, or lost. If it was lost, `after` is the newest id that survived.
local last_id, after = '0-0', '0-0'
if redis.call('EXISTS', stream) == 0 then
    -- A channel whose events are all too old may have been forgotten.
    if is_old then return {'trimmed'} end
else
    local fields, info = redis.call('XINFO', 'STREAM', stream), {}
    for at = 1, #fields, 2 do info[fields[at]] = fields[at + 1] end
    last_id = info['last-generated-id']
    -- Trimming removes the oldest events first. If an older event is kept, this one was not
    -- trimmed.
    local older = redis.call('XREVRANGE', stream, '(' .. id, '-', 'COUNT', 1)[1]
    if older then
        after = older[1]
        -- The clock may have been set back, because a replica was promoted whose clock is behind.
        -- The older event may then have been published after the loss, and a subscriber that saw
        -- the lost event would miss it. Everything published after the loss is above an id that the
        -- node knew before. The tolerance is for clocks that are a little off or a little fast.
        local behind_ms = ms_of(id) + known_ms - now_ms
        if behind_ms > 100 + known_ms / 1000 and ms_of(after) <= now_ms then
            after = newest_known_present()
        end
    elseif is_before(last_id, id) then
        after = last_id
    elseif is_old or info['length'] == 0 or info['length'] ~= info['entries-added'] then
        -- The event may have been trimmed. A subscriber that needs it gets a gap without a record,
        -- because its position is older than everything that is kept.
        return {'trimmed'}
    end
end

-- Step 3: choose the id of the record. It must be above the lost ids, also above those that only
-- other nodes know: Redis assigned them before now, by about this clock. The sequence number is one
-- that no other node chooses (see write.lua), because this record may be lost too.
local unique_seq = string.format('%.0f%06d', now_ms % 1e13, random)
local newest = is_before(id, last_id) and last_id or id
local newest_ms, newest_seq = string.match(newest, '^(%d+)%-(%d+)$')
local record_ms = now_ms
if tonumber(newest_ms) >= now_ms then
    record_ms = is_less(newest_seq, unique_seq) and newest_ms or newest_ms + 1
end
local record = string.format('%.0f-%s', record_ms, unique_seq)

-- Step 4: append the record and its index entry, and notify.
local gap = cjson.encode({
    channel = ARGV[2], after = after, oldest = record, reason = 'lost-tail',
    lost = { after = after, before = record },
})
redis.call('XADD', stream, record, 'event', 'gap', 'data', gap)
redis.call('XADD', gap_index, 'MAXLEN', ARGV[4], record, 'after', after)
-- Redis may have lost the whole channel.
redis.call('ZADD', KEYS[5], 0, ARGV[2])
redis.call('ZADD', KEYS[6], 0, ARGV[2])
redis.call('ZADD', KEYS[7], 'LT', now_ms + age_max_ms, ARGV[2])
-- A notification may fail: a node that misses it polls.
redis.pcall('PUBLISH', stream, '')
return {'recorded', record, after}
