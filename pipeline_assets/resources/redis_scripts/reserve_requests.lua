-- Reserve requests of a limit that counts the requests of a span of time, as one step of the server.
-- KEYS: 1 the times at which requests were reserved, a sorted set.
-- ARGV: 1 now (ms), 2 wanted, 3 capacity, 4 span (ms), 5 a name of this call's own.
-- Returns how many are granted, and milliseconds until one is free again (0 where any was granted).
--
-- A call whose answer was lost is repeated under the same name, and granted the same again.

local now, wanted, capacity, span = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - span)
local before = 0
while redis.call('ZSCORE', KEYS[1], ARGV[5] .. ':' .. before) do
  before = before + 1
end
if before > 0 then
  return {before, 0}
end
local granted = math.min(wanted, capacity - redis.call('ZCARD', KEYS[1]))
for number = 0, granted - 1 do
  redis.call('ZADD', KEYS[1], now, ARGV[5] .. ':' .. number)
end
redis.call('PEXPIRE', KEYS[1], 2 * span)
if granted > 0 then
  return {granted, 0}
end
local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {0, oldest[2] and tonumber(oldest[2]) + span - now or span}
