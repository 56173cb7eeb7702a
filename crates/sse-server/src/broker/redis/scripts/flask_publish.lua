-- Sends events to Flask-SSE and moves the cursor, in one step. Each event is sent once, in the order
-- of the log, whichever nodes run this.
--
-- KEYS[1]  state  the hash of flask_lease.lua
--
-- ARGV[1]  epoch    the epoch of the lease of the node
-- ARGV[2]  from     the cursor after which the node has read events
-- ARGV[3]  to       the id of the last event that it has read
-- ARGV[4]  channel  the pub/sub channel of Flask-SSE
-- ARGV[5…] messages
--
-- Reply: {'sent'}, {'not_leader'} if the lease has passed to another node, or {'moved', sent} if the
-- cursor is at another id

local state = KEYS[1]
local epoch, sent = unpack(redis.call('HMGET', state, 'epoch', 'sent'))
if epoch ~= ARGV[1] then return { 'not_leader' } end
if sent ~= ARGV[2] then return { 'moved', sent or '0-0' } end
-- The cursor first: if Redis cannot write, nothing is sent.
redis.call('HSET', state, 'sent', ARGV[3])
for message = 5, #ARGV do redis.call('PUBLISH', ARGV[4], ARGV[message]) end
return { 'sent' }
