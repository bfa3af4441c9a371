-- Keep everybody from reserving until a moment; a later moment already told stays, with its cause.
-- KEYS: 1 blocked until, 2 why.
-- ARGV: 1 the moment (ms of the exchange), 2 milliseconds to keep it, 3 why.

if tonumber(redis.call('GET', KEYS[1]) or '0') < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[2])
end
