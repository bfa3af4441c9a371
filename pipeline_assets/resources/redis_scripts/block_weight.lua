-- Keep everybody from reserving until a moment; a later moment already told stays, with its cause.
-- KEYS: 1 blocked until, 2 why.
-- ARGV: 1 the moment (ms of the exchange), 2 milliseconds to keep it, 3 why.
-- The keys live as long as the longest wait that was told, by this server's own clock: a moment that a
-- process with a wrong clock put far in the future ends with them.

local kept = tonumber(ARGV[2])
local before = redis.call('GET', KEYS[1])
if before and tonumber(before) >= tonumber(ARGV[1]) then
  if redis.call('PTTL', KEYS[1]) < kept then
    redis.call('PEXPIRE', KEYS[1], kept)
    redis.call('PEXPIRE', KEYS[2], kept)
  end
else
  kept = math.max(kept, redis.call('PTTL', KEYS[1]))
  redis.call('SET', KEYS[1], ARGV[1], 'PX', kept)
  redis.call('SET', KEYS[2], ARGV[3], 'PX', kept)
end
