-- Remember what a class of ticks uses in each of its periods.
-- KEYS: 1 expected demand.  ARGV: 1 field, 2 weight, 3 minute now, 4 minutes that it holds for,
--       5 seconds to keep the key.
-- A smaller demand replaces a larger one only when nobody has confirmed the larger for so long: a
-- tick of two symbols, started by hand, must not take away the room of the one of nine hundred.

local said = redis.call('HGET', KEYS[1], ARGV[1])
if said then
  local weight, minute = string.match(said, '^(%d+):(%d+)$')
  local age = tonumber(ARGV[3]) - tonumber(minute)
  if tonumber(weight) > tonumber(ARGV[2]) and age >= 0 and age <= tonumber(ARGV[4]) then
    return 0
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ':' .. ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[5])
return 1
