-- Trims or deletes a channel whose time is over, or indexes it again. This text continues life.lua.
--
-- KEYS[1…] stream, life, deleted, keys, expiries, gap index, trimmed, registry, index, due, tombstones
-- ARGV[1]  channel  the name of the channel
-- ARGV[2]  class    the settings of its class
--
-- Reply: 'deleted', 'trimmed' or 'kept'

-- Redis rejects a ZADD at its memory limit, unless the script has written before.
local function index_again(due_ms)
    redis.call('ZREM', KEYS[10], ARGV[1])
    redis.call('ZADD', KEYS[10], due_ms, ARGV[1])
end

local channel = read_channel(KEYS[1], KEYS[2], KEYS[3])
local ttl_ms = setting(channel.settings, ARGV[2], channel.finish and TTL_CLOSED or TTL)
if not channel.exists or not ttl_ms then
    redis.call('ZREM', KEYS[10], ARGV[1])
    return 'kept'
end
local written_ms = channel.finish and ms_of(channel.finish.id)
    or math.max(ms_of(channel.last), channel.alive_ms)
local due_ms = written_ms + ttl_ms
-- No channel expires before its last key.
local last_key = redis.call('ZREVRANGE', KEYS[5], 0, 0, 'WITHSCORES')
if last_key[2] then due_ms = math.max(due_ms, tonumber(last_key[2])) end
if due_ms > now_ms then
    index_again(due_ms)
    return 'kept'
end
if channel.finish then
    delete_channel(channel, ARGV[1], { KEYS[4], KEYS[5], KEYS[6], KEYS[7] }, KEYS[3],
        { registry = KEYS[8], index = KEYS[9], due = KEYS[10], tombstones = KEYS[11] })
    return 'deleted'
end
local info, fields = {}, redis.call('XINFO', 'STREAM', KEYS[1])
for at = 1, #fields, 2 do info[fields[at]] = fields[at + 1] end
if info['length'] > 0 then
    redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)
    -- A reader at the last id has seen everything as long as no other entry is missing.
    if info['entries-added'] then
        redis.call('HSET', KEYS[2], 'emptied',
            string.format('%s %.0f', channel.last, info['entries-added']))
    end
end
-- It stays in the index, so that a write need not look whether it is there.
index_again(now_ms + math.max(ttl_ms, 1))
return 'trimmed'
