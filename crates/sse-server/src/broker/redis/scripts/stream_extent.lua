-- Describes a stream without its events. A reply of `XINFO STREAM` itself has the data of the
-- oldest and the newest one.
--
-- KEYS[1]  stream  the stream of a channel
--
-- Reply: {last_id, oldest_id, length, added}, or the error of `XINFO STREAM`
--   last_id    the last id ever assigned
--   oldest_id  the id of the oldest entry, or nil in an empty stream
--   length     number of entries
--   added      number of entries that were ever added, or nil before Redis 7.0
--
-- The script only reads, so it also runs on a replica and on a Redis at its `maxmemory`. A shebang
-- with flags would say so, but Redis 6.2 does not know it.

local fields, info = redis.pcall('XINFO', 'STREAM', KEYS[1]), {}
if fields.err then return fields end
for at = 1, #fields, 2 do info[fields[at]] = fields[at + 1] end
local oldest = info['first-entry']
return { info['last-generated-id'], oldest and oldest[1], info['length'],
    info['entries-added'] or false }
