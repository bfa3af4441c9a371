-- One symbol's indicator state and the candles that it has not folded, as they stand together.
-- KEYS: 1 the indicator state, 2 the slots.
-- Returns open_time, changes, changed, state (each false where absent), then candles in no order.
-- An unmarked state comes with the newer slots only, and without its bytes if there are none; a
-- state that has to be built again comes with all slots, for they may be newer than the lake.

local OPEN_TIME = '^{"open_time":(%d+)'

local held = redis.call('HMGET', KEYS[1], 'open_time', 'changes', 'changed')
local open_time, changed = tonumber(held[1]), tonumber(held[3])
local reply = {held[1], held[2], held[3], false}
local usable = open_time and not (changed and changed <= open_time)
for _, value in ipairs(redis.call('HVALS', KEYS[2])) do
  -- What is no candle is passed on: the reader names the key.
  local candle = tonumber(string.match(value, OPEN_TIME))
  if not usable or not candle or candle > open_time then
    reply[#reply + 1] = value
  end
end
if usable and #reply > 4 then
  reply[4] = redis.call('HGET', KEYS[1], 'state')
end
return reply
