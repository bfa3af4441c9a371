-- What blocks the address, and on request its removal.
-- KEYS: 1 blocked until, 2 why.  ARGV: 1 "1" removes it.
-- Returns the moment (ms of the exchange; 0 for none), milliseconds that it is kept, and why.

local until_ms = redis.call('GET', KEYS[1])
if not until_ms then
  return {0, 0, ''}
end
local kept, why = redis.call('PTTL', KEYS[1]), redis.call('GET', KEYS[2])
if ARGV[1] == '1' then
  redis.call('DEL', KEYS[1], KEYS[2])
end
return {tonumber(until_ms), kept, why or ''}
