-- Bring a minute's use up to what the exchange counted.
-- KEYS: 1 the minute.  ARGV: 1 what the exchange counted, 2 seconds to keep the minute.

local used = tonumber(redis.call('HGET', KEYS[1], 'used') or '0')
if used < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'used', ARGV[1])
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
