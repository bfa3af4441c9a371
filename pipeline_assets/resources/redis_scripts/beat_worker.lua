-- Note that a worker lives, by the server's clock.
-- KEYS: 1 workers, 2 code.  ARGV: 1 name, 2 milliseconds until it counts as gone, 3 its description.
-- Returns the code that the code server has published, or ''.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d %s', now + ARGV[2], ARGV[3]))
return redis.call('GET', KEYS[2]) or ''
