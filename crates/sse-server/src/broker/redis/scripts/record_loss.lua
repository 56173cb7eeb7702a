-- Looks whether an event that a node knows of is still in its channel, and if it was lost, says so in the log.
--
-- KEYS: the stream of the channel, and the index of its gap records.
-- ARGV: the id of the event, the channel, the age that is kept (ms), how many records the index keeps, a random number
-- below a million, how long (ms) the node has known the event; and older ids that it knows, the newest first.
--
-- Answers one word of what was found, and for a record its id and the newest id before the lost ones. Ids are compared
-- as text, because a number of Lua has 53 bits.

local seen = ARGV[1]
local function has(key, id) return #redis.call('XRANGE', key, id, id) > 0 end
if has(KEYS[1], seen) then return {'there'} end

local function smaller(a, b) return #a < #b or (#a == #b and a < b) end
local function before(a, b)
    local a_ms, a_seq = string.match(a, '^(%d+)%-(%d+)$')
    local b_ms, b_seq = string.match(b, '^(%d+)%-(%d+)$')
    if a_ms ~= b_ms then return smaller(a_ms, b_ms) end
    return smaller(a_seq, b_seq)
end

-- Another node may have said it: then the event lies in the range of its record.
for _, record in ipairs(redis.call('XRANGE', KEYS[2], '(' .. seen, '+')) do
    if before(record[2][2], seen) and has(KEYS[1], record[1]) then return {'told', record[1], record[2][2]} end
end

local function ms(id) return tonumber(string.match(id, '^%d+')) end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local is_old = ms(seen) < now_ms - ARGV[3]

local function newest_known()
    for at = 7, #ARGV do
        if has(KEYS[1], ARGV[at]) then return ARGV[at] end
    end
    return '0-0'
end

local last, after = '0-0', '0-0'
if redis.call('EXISTS', KEYS[1]) == 0 then
    -- A channel whose events are all too old may have been forgotten.
    if is_old then return {'trimmed'} end
else
    local stream = redis.call('XINFO', 'STREAM', KEYS[1])
    local info = {}
    for at = 1, #stream, 2 do info[stream[at]] = stream[at + 1] end
    last = info['last-generated-id']
    -- Trimming takes the oldest first: where an older event is kept, this one was not trimmed.
    local older = redis.call('XREVRANGE', KEYS[1], '(' .. seen, '-', 'COUNT', 1)[1]
    if older then
        after = older[1]
        -- If the clock was set back (a replica was promoted whose clock is behind), this one may have come after the loss,
        -- and those who saw the lost event would miss it. Whatever came then is above an event that the node knows. (A
        -- clock is a little off, and runs a little fast.)
        local behind_ms = ms(seen) + ARGV[6] - now_ms
        if behind_ms > 100 + ARGV[6] / 1000 and ms(after) <= now_ms then after = newest_known() end
    elseif before(last, seen) then
        after = last
    elseif is_old or info['length'] == 0 or info['length'] ~= info['entries-added'] then
        -- It may have been trimmed, and whoever needs it is told that: it is older than all that is kept.
        return {'trimmed'}
    end
end

-- Above the lost ids, those that other nodes know of as well: Redis gave them out before now, by about this clock. Nobody
-- chooses the same one, as in append_idempotent.lua: this record may be lost too.
local unique = string.format('%.0f%06d', now_ms % 1e13, ARGV[5])
local newest_ms, newest_seq = string.match(before(seen, last) and last or seen, '^(%d+)%-(%d+)$')
local id_ms = now_ms
if tonumber(newest_ms) >= now_ms then id_ms = smaller(newest_seq, unique) and newest_ms or newest_ms + 1 end
local id = string.format('%.0f-%s', id_ms, unique)
local gap = cjson.encode({
    channel = ARGV[2], after = after, oldest = id, reason = 'lost-tail', lost = { after = after, before = id },
})
redis.call('XADD', KEYS[1], id, 'event', 'gap', 'data', gap)
redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[4], id, 'after', after)
-- The bell may fail (a lost one costs nothing).
redis.pcall('PUBLISH', KEYS[1], '')
return {'wrote', id, after}
