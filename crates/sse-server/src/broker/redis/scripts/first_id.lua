-- Chooses the id of a node's first append to a channel on its connection. Redis may have lost
-- events since the node's previous connection, and must not assign their ids again. Other scripts
-- begin with this text. `last` is the last id of the channel.
--
-- Normally '*' is enough: the clock has moved on since the lost events. But if the clock was set
-- back, Redis continues within the millisecond of the newest id, and could assign a lost id. The
-- sequence number then becomes one that no other node chooses: the current time and a random
-- number. It is also above the sequence numbers of the lost events, because the time has moved on
-- since.
--
-- Example: the newest id is 2000-1, and the clock is at 1000. Redis would continue with 2000-2,
-- which may be a lost id. The script continues with 2000-1000000042: time 1000, random number
-- 000042.
local function choose_first_id(last, now_ms, random)
    local last_ms, last_seq = string.match(last, '^(%d+)%-(%d+)$')
    local unique_seq = string.format('%.0f%06d', now_ms % 1e13, random)
    -- Compared as text, because numbers of Lua are exact up to 2^53 only.
    local is_above = #unique_seq > #last_seq
        or #unique_seq == #last_seq and unique_seq > last_seq
    last_ms = tonumber(last_ms)
    if last_ms >= now_ms and last_ms < 2^53 - 1 then
        -- In the next millisecond only if the clock was set back once more.
        return string.format('%.0f-%s', is_above and last_ms or last_ms + 1, unique_seq)
    end
    return '*'
end

