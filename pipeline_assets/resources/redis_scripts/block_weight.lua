-- Keep everybody from reserving until a moment; a later moment already told stays.
-- KEYS: 1 blocked until.  ARGV: 1 the moment (ms of the exchange), 2 milliseconds to keep it.
-- The key lives as long as the longest wait that was told, by this server's own clock: a moment that a
-- process with a wrong clock put far in the future ends with it.

local kept = tonumber(ARGV[2])
local before = redis.call('GET', KEYS[1])
if before and tonumber(before) >= tonumber(ARGV[1]) then
  if redis.call('PTTL', KEYS[1]) < kept then
    redis.call('PEXPIRE', KEYS[1], kept)
  end
else
  kept = math.max(kept, redis.call('PTTL', KEYS[1]))
  redis.call('SET', KEYS[1], ARGV[1], 'PX', kept)
end
