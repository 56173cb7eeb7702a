-- Deletes a channel in one small step; UNLINK frees the memory later. This text continues life.lua.
--
-- KEYS[1…] stream, life, deleted, keys, expiries, gap index, trimmed, registry, index, due, tombstones
-- ARGV[1]  channel         the name of the channel
-- ARGV[2]  tombstones_max  how many tombstones the slot may have
-- ARGV[3]  waits           1 if the caller waits for replicas and notifies by itself, otherwise 0
--
-- Reply: the tombstone, also of an earlier deletion; nil if there is neither a channel nor a tombstone.

local channel = read_channel(KEYS[1], KEYS[2], KEYS[3])
local waits = ARGV[3] == '1'
if not channel.exists then
    local tombstone = channel.tombstone
    -- WAIT covers only what this connection has written, so a known tombstone is written again.
    if waits and tombstone then
        redis.call('DEL', KEYS[3])
        redis.call('ZADD', KEYS[3], ms_of(tombstone.at), tombstone.member)
    end
    return tombstone and tombstone.member
end
return delete_channel(channel, ARGV[1], { KEYS[4], KEYS[5], KEYS[6], KEYS[7] }, KEYS[3],
    { registry = KEYS[8], index = KEYS[9], due = KEYS[10], tombstones = KEYS[11],
        tombstones_max = tonumber(ARGV[2]), waits = waits })
