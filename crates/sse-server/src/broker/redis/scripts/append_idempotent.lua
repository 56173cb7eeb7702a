-- Appends those parts of a publish whose keys are not known: looks up, appends, keeps the keys and rings, in one step.
-- Goes on after expire_keys.lua, which says what is kept, and has `now` and `expire_keys`.
--
-- KEYS: a channel's keys, the order in which they expire, and its stream.
-- ARGV: the window (ms), how many keys there may be, how many events to keep, whether this is the first append on a
-- connection (1 or 0), and a random number below a million; then for each part its key (16 bytes, or none), its content
-- (16 bytes), how many events it has, and the type and data of each.

local window, keys_max = tonumber(ARGV[1]), tonumber(ARGV[2])

-- Look at every part before anything is done.
local parts, new, fresh = {}, {}, 0
local at = 6
while at <= #ARGV do
    local part = { key = ARGV[at], content = ARGV[at + 1], first = at + 3, last = at + 1 + 2 * ARGV[at + 2] }
    if part.key ~= '' then
        local value = redis.call('HGET', KEYS[1], part.key)
        if value and tonumber(string.match(value, '^%d+')) <= now then value = false end
        local content = value and string.sub(value, -16) or new[part.key]
        if content and content ~= part.content then return {'reused', #parts} end
        if value then
            part.known = value
        elseif not content then
            new[part.key] = part.content
            fresh = fresh + 1
        end
    end
    parts[#parts + 1] = part
    at = part.last + 2
end
if fresh > 0 then
    redis.call('ZCARD', KEYS[2]) -- fails now, and not later, where the name is taken by something else
    if redis.call('HLEN', KEYS[1]) + fresh > keys_max then
        expire_keys(fresh + 16)
        if redis.call('HLEN', KEYS[1]) + fresh > keys_max then
            local _, expires = unpack(redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES'))
            return {'full', expires and math.max(expires - now, 0) or 0}
        end
    end
end

-- The id of the first event. Redis may have lost events since the connection before this, and must not give their ids out
-- again. Its clock has gone on since; but while the clock is behind the newest id (it was set back), ids go on within the
-- millisecond of that. There the second number becomes one that nobody else chooses: this moment of the clock and a random
-- number. So it is above that of the lost ones too, for the clock has gone on.
local next_id = '*'
if ARGV[4] == '1' and redis.call('EXISTS', KEYS[3]) == 1 then
    local stream = redis.call('XINFO', 'STREAM', KEYS[3])
    for at = 1, #stream, 2 do
        if stream[at] == 'last-generated-id' then
            local ms, seq = string.match(stream[at + 1], '^(%d+)%-(%d+)$')
            local unique = string.format('%.0f%06d', now % 1e13, ARGV[5])
            -- Beyond 2^53 a number of Lua is no longer exact, so this is compared as text.
            local is_above = #unique > #seq or #unique == #seq and unique > seq
            ms = tonumber(ms)
            if ms >= now and ms < 2^53 - 1 then
                -- In the next one only if the clock was set back once more.
                next_id = string.format('%.0f-%s', is_above and ms or ms + 1, unique)
            end
        end
    end
end

local answer, appended = {'placed'}, false
local function append()
    local placed = {}
    for _, part in ipairs(parts) do
        local value = part.known or placed[part.key]
        local first, last
        if value then
            first, last = string.match(value, '^%d+ (%d+%-%d+) (%d+%-%d+) ')
        else
            for event = part.first, part.last, 2 do
                last = redis.pcall('XADD', KEYS[3], 'MAXLEN', '~', ARGV[3], next_id,
                    'event', ARGV[event], 'data', ARGV[event + 1])
                if type(last) == 'table' then
                    if appended then error(last.err) end
                    return last
                end
                first, appended, next_id = first or last, true, '*'
            end
            if part.key ~= '' then
                local expires = string.format('%.0f', now + window)
                placed[part.key] = expires .. ' ' .. first .. ' ' .. last .. ' ' .. part.content
                -- In this order: what is in the hash must be found by the sweep.
                redis.call('ZADD', KEYS[2], expires, part.key)
                redis.call('HSET', KEYS[1], part.key, placed[part.key])
            end
        end
        answer[#answer + 1] = first
        answer[#answer + 1] = last
        answer[#answer + 1] = value and 1 or 0
    end
end

local done, refused = pcall(append)
if not done then
    -- Something is in the log already, so this is no refusal.
    return {'unknown', type(refused) == 'table' and refused.err or tostring(refused)}
end
if refused then return refused end
if fresh > 0 then expire_keys(2 * fresh + 16) end
-- The bell may fail (a lost one costs nothing).
if appended then redis.pcall('PUBLISH', KEYS[3], '') end
return answer
