-- The workers that live, by the server's clock. Those that are gone are removed.
-- KEYS: 1 workers.
-- Returns name and description of each, one after the other.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held, living = redis.call('HGETALL', KEYS[1]), {}
for index = 1, #held, 2 do
  local until_ms, described = string.match(held[index + 1], '^(%d+) (.*)$')
  if until_ms and tonumber(until_ms) > now then
    living[#living + 1] = held[index]
    living[#living + 1] = described
  else
    redis.call('HDEL', KEYS[1], held[index])
  end
end
return living
