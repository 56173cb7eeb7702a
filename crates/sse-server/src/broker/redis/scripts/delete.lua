-- Deletes a channel in one small step; UNLINK frees the memory later. This text continues life.lua.
--
-- KEYS[1…] stream, life, deleted, keys, expiries, gap index, trimmed, registry, index, due, tombstones
-- ARGV[1]  channel         the name of the channel
-- ARGV[2]  tombstones_max  how many tombstones the slot may have
--
-- Reply: the tombstone, also of an earlier deletion; nil if there is neither a channel nor a tombstone.

local channel = read_channel(KEYS[1], KEYS[2], KEYS[3])
if not channel.exists then return channel.tombstone and channel.tombstone.member end
return delete_channel(channel, ARGV[1], { KEYS[4], KEYS[5], KEYS[6], KEYS[7] }, KEYS[3],
    { registry = KEYS[8], index = KEYS[9], due = KEYS[10], tombstones = KEYS[11],
        tombstones_max = tonumber(ARGV[2]) })
