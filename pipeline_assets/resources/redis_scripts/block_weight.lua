-- Keep everybody from reserving until a moment; a later moment already told stays.
-- KEYS: 1 blocked until.  ARGV: 1 the moment (ms of the exchange), 2 seconds to keep it.

if tonumber(redis.call('GET', KEYS[1]) or '0') < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
end
