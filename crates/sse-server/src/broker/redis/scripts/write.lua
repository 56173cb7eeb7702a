-- Carries out a write to a channel, in one step: looks up the keys of its items, checks the state of
-- the channel and the condition, creates the channel, appends the items and the end, records the keys
-- and notifies. `lifecycle/mod.rs` has the order of the decisions.
--
-- This text continues expire_keys.lua, which defines `now_ms` and `expire_keys` and the values of the
-- hash of keys, life.lua, and first_id.lua, which defines `choose_first_id`.
--
-- KEYS[1]  keys      the idempotency keys of the channel, a hash
-- KEYS[2]  expiries  the same keys by the time at which each expires, a sorted set
-- KEYS[3]  stream    the stream of the channel
-- KEYS[4]  life      what is stored about the channel besides its events, a hash
-- KEYS[5]  deleted   its tombstone, a sorted set
-- KEYS[6]  registry  the channels of the slot, a sorted set
-- KEYS[7]  index     all channels by name, a sorted set
-- KEYS[8]  due       the channels of the slot by the time of their next maintenance, a sorted set
--
-- ARGV[1]  window_ms   how long a key is known
-- ARGV[2]  keys_max    how many keys the channel may have
-- ARGV[3]  events_max  how many events the stream keeps, about; its own settings count first
-- ARGV[4]  is_first    1 for the node's first append to this channel on its connection, otherwise 0;
--                      and w if the caller waits for replicas and notifies by itself
-- ARGV[5]  random      a random number below a million
-- ARGV[6]  held        how many keys of the channel the client has; empty if it has no limit of its
--                      own
-- ARGV[7]  owner       who stores the keys, 16 hexadecimal digits; only zeros if that is unknown
-- ARGV[8]  channel     the name of the channel
-- ARGV[9]  close       the reason of the end that follows the items; empty without one
-- ARGV[10] condition   an id, or * for no event; empty without a condition
-- ARGV[11] incarnation the one that the write belongs to; empty for any
-- ARGV[12] settings    the settings of a channel that the write creates
-- ARGV[13] is_explicit 1 if only `PUT` creates the channel
-- ARGV[14] refuses     1 if a deleted channel accepts no write while its tombstone is kept
-- ARGV[15] class       the settings of its class
-- ARGV[16] age_max_ms  the age up to which events are kept; its own settings count first
-- then per item, from ARGV[17] on:
--          key         fingerprint of the idempotency key, 16 bytes; empty without a key
--          owned_key   the key to use if another client has used `key` for other content
--          content     fingerprint of what is published, 16 bytes; empty without a key
--          count       how many events the item has
--          type, data  of each event
--
-- Reply, a word and its values:
-- 'written', newest, end, incarnation, settings, then per item: first id, last id, and 1 if the item is
--     a duplicate, otherwise 0. `end` is empty if the channel is not closed with the reason of the write
-- 'channel_deleted': the channel has another incarnation
-- 'channel_closed', reason, end
-- 'deleted_recently', 'no_such_channel': the class of the channel forbids its creation
-- 'condition_failed', newest
-- 'idempotency_key_reused', item: the key of this item, counted from zero, has other content
-- 'too_many_idempotency_keys', ms: no room for the new keys; the oldest one expires after that time
-- 'too_many_idempotency_keys_of_client': no room for the new keys in the part of the client
-- 'interrupted', error: an error after some events were appended, so the outcome is unknown
-- Any other error is an error reply: nothing was appended.

local keys, expiries, stream = KEYS[1], KEYS[2], KEYS[3]
local window_ms, keys_max, events_max = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local is_first, random, held = string.sub(ARGV[4], 1, 1) == '1', ARGV[5], tonumber(ARGV[6])
local waits = string.sub(ARGV[4], 2) == 'w'
local owner, unknown_owner = ARGV[7], string.rep('0', 16)
local close, condition, class = ARGV[9], ARGV[10], ARGV[15]
local channel = read_channel(stream, KEYS[4], KEYS[5])

if ARGV[11] ~= '' and ARGV[11] ~= channel.incarnation then return {'channel_deleted'} end

-- Returns the value of a key that has not expired.
local function find(key)
    local value = redis.call('HGET', keys, key)
    return value and tonumber(string.match(value, '^%d+')) > now_ms and value
end

-- Whether another client has stored the value. A value of an earlier version has no owner.
local function is_of_another(value)
    local rest = string.match(value, '^%d+ %S+ %S+ (.*)$')
    local stored_by = rest and #rest == 33 and string.sub(rest, 1, 16) or unknown_owner
    return stored_by ~= owner and stored_by ~= unknown_owner and owner ~= unknown_owner
end

-- Step 1: look up every item before anything is changed.
local items, new_contents, new_keys = {}, {}, 0
local at = 17
while at <= #ARGV do
    -- `first_arg` and `last_arg` enclose the types and data of the item's events.
    local item = { key = ARGV[at], content = ARGV[at + 2],
        first_arg = at + 4, last_arg = at + 3 + 2 * ARGV[at + 3] }
    if item.key ~= '' then
        local value = find(item.key)
        if value and string.sub(value, -16) ~= item.content and is_of_another(value) then
            item.key = ARGV[at + 1]
            value = find(item.key)
        end
        local content = value and string.sub(value, -16) or new_contents[item.key]
        if content and content ~= item.content then return {'idempotency_key_reused', #items} end
        if value then
            item.known_value = value
        elseif not content then
            new_contents[item.key] = item.content
            new_keys = new_keys + 1
        end
    end
    items[#items + 1] = item
    at = item.last_arg + 1
end

-- Step 2: the state of the channel and the condition. Items that are all known are past both.
local needs_append = #items == 0
for _, item in ipairs(items) do needs_append = needs_append or not item.known_value end
if needs_append then
    if channel.finish then
        if #items > 0 or close ~= channel.finish.reason then
            return {'channel_closed', channel.finish.reason, channel.finish.id}
        end
    elseif not channel.exists then
        if channel.tombstone and ARGV[14] == '1' then return {'deleted_recently'} end
        if ARGV[13] == '1' then return {'no_such_channel'} end
    end
    local holds = condition == '' or channel.finish
        or condition == '*' and not channel.has_events
        or channel.exists and condition == channel.last
    if not holds then return {'condition_failed', channel.last} end
end

-- Step 3: make room for the new keys, or reject all items.
if new_keys > 0 then
    -- Fails now, and not after an append, if `expiries` is a key of another type.
    redis.call('ZCARD', expiries)
    -- A client may have a hundred keys, and beyond them seven times as many as are free; see
    -- budget/holdings.rs.
    local beyond = held and math.ceil((held + new_keys - 100) / 7) or 0
    local needed = math.max(beyond, 1) + new_keys - 1
    local free = keys_max - redis.call('HLEN', keys)
    if free < needed then
        expire_keys(new_keys + 16)
        free = keys_max - redis.call('HLEN', keys)
    end
    if free < new_keys then
        local _, expires = unpack(redis.call('ZRANGE', expiries, 0, 0, 'WITHSCORES'))
        return {'too_many_idempotency_keys', expires and math.max(expires - now_ms, 0) or 0}
    end
    if free < needed then return {'too_many_idempotency_keys_of_client'} end
end

-- Step 4: create the channel, and choose the id of the first event.
if needs_append and not channel.exists then
    local rejected = create_for_append(channel, ARGV[8], ARGV[12], ARGV[5],
        { registry = KEYS[6], index = KEYS[7], due = KEYS[8] })
    if rejected then return rejected end
end
local next_id = is_first and choose_first_id(channel.last, now_ms, random) or '*'
-- A number that is set for this channel is exact.
local own_max = setting(channel.settings, class, HISTORY_EVENTS)
local maxlen = own_max and '=' or '~'
events_max = own_max or events_max

-- Step 5: append the new items and record their keys.
local reply, has_appended = {'written', '', '', channel.incarnation, channel.settings}, false

-- Appends the events of an item; returns its first and last id, or an error before the first event
-- of all. Raises an error after that.
local function append_events(item)
    local first_id, last_id
    for arg = item.first_arg, item.last_arg, 2 do
        last_id = redis.pcall('XADD', stream, 'MAXLEN', maxlen, events_max, next_id,
            'event', ARGV[arg], 'data', ARGV[arg + 1])
        if type(last_id) == 'table' then
            if has_appended then error(last_id.err) end
            return nil, nil, last_id
        end
        first_id, has_appended, next_id = first_id or last_id, true, '*'
        channel.last, channel.has_events = last_id, true
    end
    return first_id, last_id
end

-- Returns an error if nothing was appended.
local function append_items()
    local new_values = {}
    for _, item in ipairs(items) do
        local value = item.known_value or new_values[item.key]
        local first_id, last_id, rejected
        if value then
            first_id, last_id = string.match(value, '^%d+ (%d+%-%d+) (%d+%-%d+) ')
            -- WAIT covers only what this connection has written, so a known key is written again.
            if waits and item.known_value then redis.call('HSET', keys, item.key, value) end
        else
            first_id, last_id, rejected = append_events(item)
            if rejected then return rejected end
            if item.key ~= '' then
                local expires = string.format('%.0f', now_ms + window_ms)
                new_values[item.key] =
                    expires .. ' ' .. first_id .. ' ' .. last_id .. ' ' .. owner .. ' '
                    .. item.content
                -- In this order, because expire_keys finds a key of the hash by its expiry.
                redis.call('ZADD', expiries, expires, item.key)
                redis.call('HSET', keys, item.key, new_values[item.key])
            end
        end
        reply[#reply + 1] = first_id
        reply[#reply + 1] = last_id
        reply[#reply + 1] = value and 1 or 0
    end
end

local is_complete, rejected = pcall(append_items)
if not is_complete then
    -- Some events are in the stream already, so this is not a rejection.
    return {'interrupted', type(rejected) == 'table' and rejected.err or tostring(rejected)}
end
if rejected then return rejected end
if new_keys > 0 then expire_keys(2 * new_keys + 16) end

-- Step 6: the end, after which Redis itself rejects every other entry.
if close ~= '' and channel.exists and not channel.finish then
    local id = id_after(channel.last)
    local has_events = channel.has_events and 1 or 0
    redis.call('HSET', KEYS[4], 'end',
        string.format('%s %s %d %s', id, channel.last, has_events, close))
    redis.call('XSETID', stream, MAX_ID)
    channel.finish, has_appended = { id = id, reason = close }, true
end
if has_appended then
    local keys_ms = new_keys > 0 and window_ms or nil
    index_write(channel, ARGV[8], class, ARGV[16], keys_ms, KEYS[8])
end
local has_end = close ~= '' and channel.finish and channel.finish.reason == close
reply[2] = has_end and channel.finish.id or #items > 0 and reply[#reply - 1] or channel.last
reply[3] = has_end and channel.finish.id or ''
-- A notification may fail: a node that misses it polls.
if has_appended and not waits then redis.pcall('PUBLISH', stream, '') end
return reply
