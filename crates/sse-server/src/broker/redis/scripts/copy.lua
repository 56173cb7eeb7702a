-- Copies records and keys of a channel from another log, with their ids, in one step. The last step of
-- a channel also copies its state. This text continues life.lua.
--
-- The field `copied` of the hash `life` marks a channel that this script has created. No other channel
-- is changed, and a copied one only if its last id is `expected`. A step can therefore be sent again if
-- its outcome is unknown.
--
-- KEYS[1…] stream, life, deleted, keys, expiries, gap index, trimmed, registry, index, due, tombstones
-- ARGV[1]  channel    the name of the channel
-- ARGV[2]  expected   the last id of the copy so far, before its end; empty without a copy
-- ARGV[3]  replaces   1 if the copy so far is that of a deleted incarnation, otherwise 0
-- ARGV[4]  start      the id after which the channel begins; empty if there is no channel any more
-- ARGV[5]  position   the id up to which the channel is copied after this step
-- ARGV[6]  is_last    1 if the state follows, otherwise 0
-- ARGV[7]  tombstone  empty if there is none
-- ARGV[8]  settings   the settings of the channel
-- ARGV[9]  alive      the time at which it was created or kept alive last
-- ARGV[10] end        empty if the channel is open
-- ARGV[11] trimmed    the newest id that was trimmed; empty if nothing was
-- ARGV[12] oldest     the oldest record that is kept; empty without a record
-- ARGV[13] records    how many records are kept
-- ARGV[14] random     a random number below a million
-- ARGV[15] keys       how many idempotency keys follow
-- then per key: its fingerprint, its expiry, and its value as in expire_keys.lua
-- then per record: id, type, data, and for a gap record the beginning of its range, otherwise empty. The
--          type is empty if the record is damaged: readers take such an entry for a foreign one, and
--          report it by a gap.
--
-- Reply, a word and its values:
-- 'copied', last, records: the last id of the copy, and how many records it has
-- 'not_empty': the channel exists and is no copy
-- 'moved', last: the last id of the copy is not `expected`; it is empty without a copy
-- 'differs', records: the copy has another number of records

local stream, life, gap_index, trimmed_key = KEYS[1], KEYS[2], KEYS[6], KEYS[7]
local start, position, finish, trimmed, oldest = ARGV[4], ARGV[5], ARGV[10], ARGV[11], ARGV[12]
local channel = read_channel(stream, life, KEYS[3])

-- Step 1: the copy so far.
if channel.exists and not redis.call('HGET', life, 'copied') then return {'not_empty'} end
local last = channel.exists and channel.last or ''
if last ~= ARGV[2] then return {'moved', last} end
if ARGV[3] == '1' or start == '' then
    redis.call('UNLINK', stream, life, KEYS[4], KEYS[5], gap_index, trimmed_key)
    for nth = 8, 10 do redis.call('ZREM', KEYS[nth], ARGV[1]) end
    channel.exists = false
end

-- Step 2: the tombstone, which also belongs to the incarnation after it.
if ARGV[7] ~= '' then
    local at = ms_of(string.match(ARGV[7], '^%S+ %S+ (%S+) '))
    redis.call('DEL', KEYS[3])
    redis.call('ZADD', KEYS[3], at, ARGV[7])
    redis.call('ZADD', KEYS[11], at, ARGV[1])
    redis.call('ZADD', KEYS[10], at + TOMBSTONE_MS, ARGV[1])
end
if start == '' then return {'copied', '', 0} end

-- Step 3: the channel, its keys and its records.
if not channel.exists then
    channel.last, channel.finish = start, nil
    local rejected = create_for_append(channel, ARGV[1], DEFAULT_SETTINGS, ARGV[14],
        { registry = KEYS[8], index = KEYS[9] })
    if rejected then return rejected end
    redis.call('HSET', life, 'copied', 1)
end
local at = 16
for _ = 1, tonumber(ARGV[15]) do
    redis.call('ZADD', KEYS[5], ARGV[at + 1], ARGV[at])
    redis.call('HSET', KEYS[4], ARGV[at], ARGV[at + 2])
    at = at + 3
end
while at <= #ARGV do
    local id, kind, data, lost_after = unpack(ARGV, at, at + 3)
    if kind == '' then
        redis.call('XADD', stream, id, 'damaged', '')
        redis.call('HSET', life, 'holes', 1)
    else
        redis.call('XADD', stream, id, 'event', kind, 'data', data)
    end
    if lost_after ~= '' then redis.call('XADD', gap_index, id, 'after', lost_after) end
    at = at + 4
end
-- The records up to here can be trimmed already. A closed channel has its last id.
if not channel.finish then redis.call('XSETID', stream, position) end
if ARGV[6] ~= '1' then return {'copied', position, redis.call('XLEN', stream)} end

-- Step 4: the state. What was trimmed in the log since it was copied is trimmed here.
redis.call('HSET', life, 'start', start, 'settings', ARGV[8], 'alive', ARGV[9])
if oldest == '' then
    redis.call('XTRIM', stream, 'MAXLEN', 0)
else
    redis.call('XTRIM', stream, 'MINID', oldest)
end
local records = redis.call('XLEN', stream)
if records ~= tonumber(ARGV[13]) and not redis.call('HGET', life, 'holes') then
    return {'differs', records}
end
-- A reader at the newest trimmed id has missed nothing as long as no other entry is missing.
local added = records
if trimmed == '' then
    redis.call('HDEL', life, 'emptied')
else
    added = records + 1
    redis.call('HSET', life, 'emptied', trimmed .. ' 1')
end
-- Redis before 7.0 does not count entries, and then the mark of a trim by age shows the same.
local set = redis.pcall('XSETID', stream, finish == '' and position or MAX_ID, 'ENTRIESADDED',
    string.format('%.0f', added))
if type(set) == 'table' and set.err then
    if finish ~= '' then redis.call('XSETID', stream, MAX_ID) end
    if trimmed ~= '' and oldest ~= '' then
        redis.call('SET', trimmed_key, trimmed .. ' ' .. oldest)
    end
end
if finish ~= '' then redis.call('HSET', life, 'end', finish) end
-- Maintenance spreads its first look at all channels over a minute.
redis.call('ZADD', KEYS[10], now_ms + tonumber(ARGV[14]) % 60000, ARGV[1])
return {'copied', position, records}
