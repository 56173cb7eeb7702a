-- Describes a channel without its events. A reply of `XINFO STREAM` itself has the data of the oldest
-- and the newest one.
--
-- KEYS[1]  stream   the stream of a channel
-- KEYS[2]  life     what is stored about it besides its events; see life.lua
-- KEYS[3]  deleted  its tombstone
--
-- Reply: {last_id, oldest_id, length, added, tombstone, incarnation, start, settings, alive, end,
-- emptied}, or the error of `XINFO STREAM` if there is neither a stream nor a tombstone
--   last_id    the last id ever assigned, the highest possible one in a closed channel; nil without a
--              stream
--   oldest_id  the id of the oldest entry, or nil in an empty stream
--   length     number of entries
--   added      number of entries that were ever added, or nil before Redis 7.0
--
-- The script only reads, so it also runs on a replica and on a Redis at its `maxmemory`. A shebang
-- with flags would say so, but Redis 6.2 does not know it.

local fields, info = redis.pcall('XINFO', 'STREAM', KEYS[1]), {}
local tombstone = redis.call('ZRANGE', KEYS[3], -1, -1)[1]
if fields.err and not tombstone then return fields end
for at = 1, #fields, 2 do info[fields[at]] = fields[at + 1] end
local oldest, life = info['first-entry'], redis.call('HMGET', KEYS[2], 'incarnation', 'start',
    'settings', 'alive', 'end', 'emptied')
return { info['last-generated-id'] or false, oldest and oldest[1] or false, info['length'] or 0,
    info['entries-added'] or false, tombstone or false, unpack(life) }
