-- Write one symbol's indicator state if nothing about it has changed since it was read.
-- KEYS: 1 the indicator state.
-- ARGV: 1 open_time and 2 changes as read ('' for absent), 3 time to live in seconds, 4 the new
-- open_time in ms, 5 the new state.
-- Returns 1 if it was written, 0 if another sensor or a changed slot came first. What the mark told
-- is folded into the new state, so a written state has none.

local held = redis.call('HMGET', KEYS[1], 'open_time', 'changes')
if (held[1] or '') ~= ARGV[1] or (held[2] or '') ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], 'open_time', ARGV[4], 'state', ARGV[5])
redis.call('HDEL', KEYS[1], 'changed')
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
