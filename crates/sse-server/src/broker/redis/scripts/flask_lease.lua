-- Acquires or renews the lease of a channel's bridge to Flask-SSE.
--
-- KEYS[1]  state   a hash:
--            holder      the node that has, or had, the lease
--            expires_ms  until when, by Redis' clock
--            epoch       grows each time that the lease passes to a node
--            sent        the id up to which events were sent to Flask-SSE; see flask_publish.lua
-- KEYS[2]  stream  the stream of the channel
-- KEYS[3]  life    what is stored about the channel besides its events; see life.lua
--
-- ARGV[1]  node          the node that asks
-- ARGV[2]  lease_ms      how long the lease lasts
-- ARGV[3]  idle_max_ms   after a longer time without a lease, events are sent from now on only
-- ARGV[4]  subscription  the pub/sub channel of markers, to which every connected node is subscribed
--
-- Reply: {0} if another node has the lease, otherwise {1, epoch, sent}

local state, stream = KEYS[1], KEYS[2]
local node, lease_ms, idle_max_ms, subscription =
    ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local fields = redis.call('HMGET', state, 'holder', 'expires_ms', 'epoch', 'sent')
local holder, expires_ms, epoch, sent = fields[1], tonumber(fields[2] or 0), fields[3], fields[4]

-- Whether the node that asks is the only connected one, so that the holder must have ended. A user
-- who may not ask for subscribers waits until the lease expires.
local function is_alone()
    local subscribers = redis.pcall('PUBSUB', 'NUMSUB', subscription)
    return not subscribers.err and subscribers[2] == 1
end

local function last_id()
    -- The stream of a closed channel has the highest possible id, which is above those of a channel
    -- that follows it.
    local finish = redis.call('HGET', KEYS[3], 'end')
    if finish then return string.match(finish, '^%S+') end
    local info = redis.pcall('XINFO', 'STREAM', stream)
    for field = 1, info.err and 0 or #info, 2 do
        if info[field] == 'last-generated-id' then return info[field + 1] end
    end
    return '0-0'
end

if holder ~= node then
    -- An expiry that is too far away was written before the clock was set back.
    local is_held = expires_ms > now_ms and expires_ms <= now_ms + lease_ms
    if is_held and not is_alone() then return { 0 } end
    epoch = redis.call('HINCRBY', state, 'epoch', 1)
    if now_ms - expires_ms > idle_max_ms then sent = false end
end
sent = sent or last_id()
redis.call('HSET', state, 'holder', node, 'expires_ms', string.format('%.0f', now_ms + lease_ms),
    'sent', sent)
return { 1, tonumber(epoch), sent }
